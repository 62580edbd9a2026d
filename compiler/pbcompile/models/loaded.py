"""What goes into the model reader (`ModelSource`) and what comes out of it (`LoadedModel`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbcompile.spec.spec import ModelSource
from pbcompile.tensor_type import Dims

__all__ = ["LoadedModel", "ModelDescription", "ModelSource", "ModelTensor", "PreprocessingLayer"]

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import tensorflow as tf

    Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ModelTensor:
    """An input or output of a model.

    name:  as the model's user knows it: the input layer's, the output layer's, or the key of a dict.
    dtype: a NumPy dtype name, or "string".
    shape: batch first, `None` for an open size; `None` as a whole where the rank is unknown.
    """

    name: str
    dtype: str
    shape: Dims | None


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says about itself without TensorFlow: output shapes are mostly unknown.

    activations: of the outputs, by name, where the config tells.
    """

    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    preprocessing: tuple[PreprocessingLayer, ...] = ()
    activations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be traced: the inference graph, never the training one.

    inputs, outputs: in the model's own order.
    call:    symbolic tensors by input name to symbolic tensors by output name; trace it under `tf.function`.
    kind:    "keras" or "saved_model".
    repairs: what was changed in an old file so that it means the same today, one sentence each.
    preprocessing: layers at its inputs that a spec's steps might do again.
    activations: of the outputs, by name, where the config tells.
    departs: where this reading means something else than today's Keras loading the same file would.
    sha256:  over the contents of the model's file or directory, without its path.
    weights_sha256: of the weights file beside an architecture, None where the model holds its weights.
    """

    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    call: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]
    kind: str
    repairs: tuple[str, ...]
    sha256: str
    preprocessing: tuple[PreprocessingLayer, ...] = ()
    departs: tuple[str, ...] = ()
    activations: Mapping[str, str] = field(default_factory=dict)
    keep_alive: object = field(default=None, repr=False, compare=False)
    weights_sha256: str | None = None

    def predict(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The original model run plainly on one batch: arrays by input name to arrays by output name."""
        import numpy as np
        import tensorflow as tf

        given = {t.name: tf.constant(feeds[t.name], dtype=tf.as_dtype(t.dtype)) for t in self.inputs}
        return {name: np.asarray(value) for name, value in self.call(given).items()}


@dataclass(frozen=True)
class PreprocessingLayer:
    """A layer near a model's input that already does what a spec's `preprocess` might do again.

    layer:  its name in the model.
    kind:   "rescale", "normalize", "resize", "crop", "batch_norm" or "lambda".
    detail: its numbers, as a person reads them.
    """

    layer: str
    kind: str
    detail: str
