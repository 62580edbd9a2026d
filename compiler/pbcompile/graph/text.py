"""A graph as text: one node a line, deterministic, for golden tests and for people."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from pbcompile.graph import registry
from pbcompile.graph.shapes import Shape
from pbcompile.graph.view import Graph, Node

PRINTED_ELEMENTS = 8
"""Constants of up to this many elements are printed in full."""


def graph_text(graph: Graph) -> str:
    """The graph in topological order, `name = Op(inputs) attr=value : dtype[shape]`, without attributes at defaults."""
    lines = [f"inputs {' '.join(graph.inputs)}", f"outputs {' '.join(graph.outputs)}"]
    lines += [node_text(graph, node) for node in graph.sorted()]
    return "\n".join(lines) + "\n"


def node_text(graph: Graph, node: Node) -> str:
    """One node as a line."""
    if node.op == "Const":
        return f"{node.name} = {const_text(graph.const(node.name))}"
    attrs = "".join(
        f" {key}={_value_text(node.attr(key))}"
        for key, value in sorted(node.attrs.items())
        if registry.attr_defs(node.op)[key].type not in ("type", "list(type)", "shape")
        and not registry.is_default(node.op, key, value)
        and key not in ("N", "num_split")
    )
    ports = len(registry.output_dtypes(node.op, node.attrs))
    typed = ", ".join(
        f"{graph.dtype(tensor)}{shape_text(graph.shape(tensor))}"
        for tensor in (node.name if not port else f"{node.name}:{port}" for port in range(ports))
        if ports == 1 or tensor == node.name or graph.readers(tensor)
    )
    return f"{node.name} = {node.op}({', '.join(node.inputs)}){attrs} : {typed}"


def const_text(value: np.ndarray[Any, Any]) -> str:
    """A constant: all its numbers when they are few, else dtype, shape and a digest."""
    head = f"{tf.as_dtype(value.dtype).name}{list(value.shape)}"
    if value.dtype.kind in "OSU":
        return f"{head} {value.reshape(-1).tolist()[:PRINTED_ELEMENTS]}"
    if value.size <= PRINTED_ELEMENTS:
        return f"{head} {' '.join(f'{v:g}' if value.dtype.kind == 'f' else str(v) for v in value.reshape(-1).tolist())}"
    return f"{head} #{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:8]}"


def shape_text(shape: Shape) -> str:
    """`[?, 8, 8, 3]`, or `[...]` where the rank is unknown."""
    return "[...]" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def _value_text(value: Any) -> str:
    return "[" + ",".join(str(v) for v in value) + "]" if isinstance(value, list) else str(value)
