"""Model files of every age and format to one inference function.  Configs are read as data; no code in them runs."""

from __future__ import annotations

from pbcompile.models.files import kind_of
from pbcompile.models.loaded import LoadedModel, ModelDescription, ModelSource, ModelTensor, PreprocessingLayer
from pbcompile.models.preprocessing import recognise_preprocessing

__all__ = [
    "LoadedModel",
    "ModelDescription",
    "ModelSource",
    "ModelTensor",
    "PreprocessingLayer",
    "describe_model",
    "load_model",
    "recognise_preprocessing",
]


def load_model(source: ModelSource) -> LoadedModel:
    """The model at `source`, ready to be traced.

    Raises SpecError where the file is missing, ModelError where it is no model, is damaged, or cannot be built.
    """
    kind = kind_of(source)
    if kind == "saved_model":
        from pbcompile.models.saved_model import load_saved_model

        return load_saved_model(source)
    from pbcompile.models.keras_files import load_keras

    return load_keras(source, kind)


def describe_model(source: ModelSource) -> ModelDescription | None:
    """Names, dtypes and shapes as far as the file says them without TensorFlow; None for a SavedModel.

    ModelError also where the weights are more than a `.pb` holds.
    """
    kind = kind_of(source)
    if kind == "saved_model":
        return None
    from pbcompile.models.keras_files import describe_network, read_network
    from pbcompile.models.size import require_size

    network = read_network(source, kind)[0]
    require_size(source, kind)
    return describe_network(network)
