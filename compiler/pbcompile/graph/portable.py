"""The GraphDef as it goes into the file: readable by old runtimes, the same bytes every time."""

from __future__ import annotations

from typing import Any

from tensorflow.core.framework import graph_pb2, node_def_pb2, types_pb2

from pbcompile.graph import registry
from pbcompile.graph.view import Graph, Node


def portable_graph_def(graph: Graph) -> Any:
    """The graph as a GraphDef that runtimes from TensorFlow 1.15 on accept, in topological order.

    - Attributes at their default value are left out: an older runtime refuses those it does not know, and assumes
      the same default for those it does (facts 32).
    - No `_` attributes, devices, functions.  `min_consumer` stays 0.
    - Constants hold every number, also where all are equal (facts 7).
    """
    graph_def = graph_pb2.GraphDef()
    graph_def.versions.producer = graph.producer
    for node in graph.sorted():
        graph_def.node.append(_portable_node(node))
    return graph_def


def serialize(graph_def: Any) -> bytes:
    """The bytes of a GraphDef; the same for the same graph in every process."""
    data: bytes = graph_def.SerializeToString(deterministic=True)
    return data


def _portable_node(node: Node) -> Any:
    made = node_def_pb2.NodeDef(name=node.name, op=node.op, input=node.inputs)
    for key in sorted(node.attrs):
        value = node.attrs[key]
        if registry.is_default(node.op, key, value):
            continue
        if node.op == "Const" and key == "value" and not _is_written_out(value.tensor):
            made.attr[key].tensor.CopyFrom(registry.tensor_proto(registry.tensor_value(value.tensor)))
        else:
            made.attr[key].CopyFrom(value)
    return made


def _is_written_out(proto: Any) -> bool:
    return bool(proto.tensor_content) or proto.dtype == types_pb2.DT_STRING
