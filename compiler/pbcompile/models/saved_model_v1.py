"""SavedModels of TensorFlow 1 and modules of TF Hub 1: a graph, a session's variables, and signatures.

TensorFlow 2 wraps such a graph into a function whose variables are references that nothing can freeze, so the graph is
restored into a session of its own, and its variables become constants there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from pbcompile.models.files import content_sha256
from pbcompile.models.loaded import LoadedModel, ModelSource, ModelTensor


def is_version_1(saved: Any) -> bool:
    """Whether a SavedModel message was written by TensorFlow 1: it has no graph of objects."""
    return all(not meta.object_graph_def.nodes for meta in saved.meta_graphs)


def load_version_1(source: ModelSource, saved: Any) -> LoadedModel:
    """The signature of the inference graph in `saved`, with its variables as constants."""
    tags = _tags(saved)
    try:
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            meta = tf.compat.v1.saved_model.load(session, tags, str(source.path))
            signature = _signature(source, meta.signature_def)
            nodes = [info.name.partition(":")[0] for _, info in sorted(signature.outputs.items())]
            frozen = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), nodes)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, tf.errors.OpError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise source.refuse(f"{source.path.name}/ cannot be loaded as a SavedModel: {first}") from error
    inputs = tuple(_tensor(key, info) for key, info in sorted(signature.inputs.items()))
    outputs = tuple(_tensor(key, info) for key, info in sorted(signature.outputs.items()))
    feeds = {key: info.name for key, info in signature.inputs.items()}
    results = [info.name for _, info in sorted(signature.outputs.items())]

    def imported(given: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        replaced = {feeds[tensor.name]: given[tensor.name] for tensor in inputs}
        return list(tf.graph_util.import_graph_def(frozen, input_map=replaced, return_elements=results, name=""))

    def call(given: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if tf.executing_eagerly():
            specs = [tf.TensorSpec(t.shape, t.dtype) for t in inputs]
            names = [tensor.name for tensor in inputs]
            wrapped = tf.compat.v1.wrap_function(lambda *xs: imported(dict(zip(names, xs, strict=True))), specs)
            values = wrapped(*[given[name] for name in names])
        else:
            values = imported(given)
        return {tensor.name: value for tensor, value in zip(outputs, values, strict=True)}

    return LoadedModel(inputs, outputs, call, "saved_model", (), content_sha256(source.path))


def _tags(saved: Any) -> list[str]:
    """The tags of the graph for serving; a hub module's has none."""
    found = [list(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    return next((tags for tags in found if "serve" in tags), min(found, key=len))


def _signature(source: ModelSource, signatures: Mapping[str, Any]) -> Any:
    names = sorted(name for name, value in signatures.items() if value.inputs and value.outputs)
    for preferred in ("serving_default", "default"):
        if preferred in names:
            return signatures[preferred]
    if len(names) == 1:
        return signatures[names[0]]
    if not names:
        raise source.refuse(f"{source.path.name}/ has no signature to call")
    raise source.refuse(f"{source.path.name}/ has the signatures {', '.join(names)}, and none is serving_default")


def _tensor(name: str, info: Any) -> ModelTensor:
    shape = tf.TensorShape(info.tensor_shape)
    return ModelTensor(name, tf.as_dtype(info.dtype).name, None if shape.rank is None else tuple(shape.as_list()))
