"""Static shapes, by asking TensorFlow: the graph is imported without its large constants and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from pbcompile.errors import PassError, Problem
from pbcompile.graph.tensors import join_tensor

Shape = tuple[int | None, ...] | None
"""Sizes of a tensor, `None` for a size known only when fed; `None` as a whole where not even the rank is known."""

SMALL_CONSTANT_BYTES = 4096
"""Constants up to this size are imported as they are (shapes, axes, paddings); larger ones only as a shape."""


def infer_shapes(nodes: Iterable[Any], producer: int) -> dict[str, Shape]:
    """The shape of every tensor among these NodeDefs, as far as TensorFlow can tell without running them."""
    graph_def = graph_pb2.GraphDef()
    graph_def.versions.producer = producer
    for node in nodes:
        graph_def.node.append(_light(node))
    graph = tf.Graph()
    with graph.as_default():
        try:
            tf.graph_util.import_graph_def(graph_def, name="")
        except ValueError as error:
            raise PassError(Problem("graph-invalid", f"TensorFlow refuses the graph: {error}")) from error
    return {
        join_tensor(op.name, port): read_shape(output.shape)
        for op in graph.get_operations()
        for port, output in enumerate(op.outputs)
    }


def infer_node_shapes(node: Any, inputs: Mapping[str, Any]) -> dict[str, Shape]:
    """The shapes of one node's outputs; `inputs` are NodeDefs (constants or placeholders) with the names it reads."""
    shapes = infer_shapes([*inputs.values(), node], 0)
    return {tensor: shape for tensor, shape in shapes.items() if tensor.split(":")[0] == node.name}


def placeholder(name: str, dtype: str, shape: Shape) -> Any:
    """A NodeDef of a placeholder."""
    node = node_def_pb2.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return node


def read_shape(shape: Any) -> Shape:
    """A tf.TensorShape as a tuple."""
    return None if shape.rank is None else tuple(shape.as_list())


def _light(node: Any) -> Any:
    if node.op != "Const" or node.ByteSize() <= SMALL_CONSTANT_BYTES:
        return node
    proto = node.attr["value"].tensor
    light = placeholder(node.name, tf.as_dtype(proto.dtype).name, tuple(d.size for d in proto.tensor_shape.dim))
    light.input.extend(node.input)
    return light
