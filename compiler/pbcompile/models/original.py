"""The model as Keras itself reads it: the gate's second opinion on our own reader."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.models.files import kind_of, open_h5
from pbcompile.models.loaded import LoadedModel
from pbcompile.spec.spec import ModelSource

Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]

KERAS_MODULES = ("keras.", "builtins")


def original_predict(source: ModelSource, model: LoadedModel) -> tuple[str, Predict]:
    """Who answers for the original, and how: Keras's own loader where it reads the file, else `model.predict`.

    model: what our reader made of the same file; it has refused everything that would run code of the file.
    """
    if model.kind != "keras":
        return "; ".join(("the SavedModel's own signature", *model.repairs)), model.predict
    ours = "our reading of the file, which this Keras does not load itself"
    if model.departs:
        return f"our reading of the file, as this Keras would not keep what it means: {model.departs[0]}", model.predict
    if source.lambdas or source.trust_code or source.weights or not _names_only_keras(source):
        return ours, model.predict
    import keras

    try:
        theirs = keras.saving.load_model(source.path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever an old file trips over; that is what our own reader is for
        return f"{ours} ({type(error).__name__})", model.predict
    inputs = [tuple(tensor.shape) for tensor in _leaves(theirs.inputs)]
    outputs = [tuple(tensor.shape) for tensor in _leaves(theirs.outputs)]
    same = inputs == [t.shape for t in model.inputs] and outputs == [t.shape for t in model.outputs]
    # A Sequential has no `input` before it was called; it has one tensor on either side.
    is_sequential = isinstance(theirs, keras.Sequential)
    taken, made = (theirs.inputs[0], theirs.outputs[0]) if is_sequential else (theirs.input, theirs.output)
    if not same or isinstance(taken, dict) or isinstance(made, dict):
        return ours, model.predict  # such as the doubled batch axis of dict Sequentials; dicts are sorted by Keras

    def predict(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        given = [feeds[tensor.name].astype(tensor.dtype) for tensor in model.inputs]
        answers = _leaves(theirs(keras.tree.pack_sequence_as(taken, given), training=False))
        return {tensor.name: np.asarray(a) for tensor, a in zip(model.outputs, answers, strict=True)}

    return f"Keras {keras.__version__} loading the file itself", predict


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, (list, tuple)) else [value]


def _names_only_keras(source: ModelSource) -> bool:
    """Whether every module that the config names is Keras's own, so that loading it imports nothing else."""
    if kind_of(source) == "keras":
        with zipfile.ZipFile(source.path) as archive:
            config = json.loads(archive.read("config.json"))
    else:
        with open_h5(source, source.path) as file:
            text = file.attrs.get("model_config")
        if text is None:
            return False
        config = json.loads(text)
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            module = value.get("module")
            if isinstance(module, str) and module != "keras" and not module.startswith(KERAS_MODULES):
                return False
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return True
