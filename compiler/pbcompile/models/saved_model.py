"""SavedModel directories of any age through their signatures, without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbcompile.models.files import content_sha256
from pbcompile.models.loaded import LoadedModel, ModelSource, ModelTensor

if TYPE_CHECKING:
    import tensorflow as tf


def load_saved_model(source: ModelSource) -> LoadedModel:
    """The serving signature of the SavedModel at `source.path`.

    The signature is `serving_default` where there is one, else the only one; ModelError lists them otherwise.
    A SavedModel keeps no order of inputs and outputs, so they come sorted by name.
    """
    import tensorflow as tf

    name = source.path.name
    try:
        loaded = tf.saved_model.load(str(source.path))
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, tf.errors.OpError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise source.refuse(f"{name}/ cannot be loaded as a SavedModel: {first}") from error
    signature = _signature(source, loaded)
    inputs = tuple(_tensor(key, spec) for key, spec in sorted(signature.structured_input_signature[1].items()))
    outputs = tuple(_tensor(key, spec) for key, spec in sorted(signature.structured_outputs.items()))

    def call(feeds: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        results = signature(**{tensor.name: feeds[tensor.name] for tensor in inputs})
        return {tensor.name: results[tensor.name] for tensor in outputs}

    return LoadedModel(inputs, outputs, call, "saved_model", (), content_sha256(source.path), (), loaded)


def _signature(source: ModelSource, loaded: Any) -> Any:
    signatures = getattr(loaded, "signatures", {})
    names = sorted(k for k in signatures if k != "__saved_model_init_op")
    if "serving_default" in names:
        return signatures["serving_default"]
    if len(names) == 1:
        return signatures[names[0]]
    if not names:
        raise source.refuse(f"{source.path.name}/ has no signature to call")
    raise source.refuse(f"{source.path.name}/ has the signatures {', '.join(names)}, and none is serving_default")


def _tensor(name: str, spec: Any) -> ModelTensor:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return ModelTensor(name, spec.dtype.name, shape)
