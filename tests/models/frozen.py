"""A loaded model frozen and run as users do: variables as constants, a stock session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pbcompile.control_flow import lower_function
from pbcompile.models import LoadedModel


def frozen_graph(model: LoadedModel) -> tuple[Any, list[str], list[str]]:
    """The GraphDef, its input tensors and its output tensors, in the model's order."""

    def call(*given: tf.Tensor) -> list[tf.Tensor]:
        feeds = {tensor.name: value for tensor, value in zip(model.inputs, given, strict=True)}
        return list(model.call(feeds).values())

    specs = [tf.TensorSpec(t.shape, t.dtype, name=f"given_{i}") for i, t in enumerate(model.inputs)]
    graph_def, inputs, results = lower_function(tf.function(call, autograph=False).get_concrete_function(*specs))
    assert not graph_def.library.function
    assert not [node.name for node in graph_def.node for tensor in node.input if tensor.startswith("^")]
    return graph_def, inputs, [name if ":" in name else f"{name}:0" for name, _ in results]


def frozen_answers(model: LoadedModel, given: Sequence[Any]) -> list[Any]:
    """What the frozen model answers, in the order of its outputs."""
    graph_def, inputs, outputs = frozen_graph(model)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(outputs, dict(zip(inputs, given, strict=True)))
