"""Permutations of channels (RGB to BGR and back): what is one, and what they pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pbcompile.graph import Decline, Graph, Node
from pbcompile.passes.affine import PerChannel
from pbcompile.passes.commute import COMMUTING, dims

Order = npt.NDArray[np.int64]

ELEMENTWISE = frozenset({"Cast", "Relu", "Relu6", "LeakyRelu", "Sigmoid", "Round", "Floor", "Neg", "Square", "Abs"})
BINARY = frozenset({"AddV2", "Add", "Sub", "Mul", "RealDiv", "Maximum", "Minimum"})
RESIZES = frozenset({"ResizeNearestNeighbor", "ResizeBilinear", "ResizeArea", "ResizeBicubic"})


def order_of(graph: Graph, node: Node) -> tuple[str, PerChannel] | None:
    """The data input and the order of a node that only permutes an axis: out[c] = in[order[c]]."""
    if node.op not in ("ReverseV2", "GatherV2", "StridedSlice"):
        return None
    shape = graph.shape(node.inputs[0])
    if shape is None:
        return None
    found = (_gathered if node.op == "GatherV2" else _reversed)(graph, node, shape)
    if found is None or shape[found[0]] is None:
        return None
    axis, order = found
    return node.inputs[0], PerChannel(order.astype(np.float64), axis)


def _gathered(graph: Graph, node: Node, shape: tuple[int | None, ...]) -> tuple[int, Order] | None:
    if not (graph.is_const(node.inputs[1]) and graph.is_const(node.inputs[2])) or node.attr("batch_dims"):
        return None
    axis = int(graph.const(node.inputs[2])) % len(shape)
    order = graph.const(node.inputs[1]).astype(np.int64)
    size = shape[axis]
    if order.ndim != 1 or size is None or sorted(order.tolist()) != list(range(size)):
        return None
    return axis, order


def _reversed(graph: Graph, node: Node, shape: tuple[int | None, ...]) -> tuple[int, Order] | None:
    if not all(graph.is_const(tensor) for tensor in node.inputs[1:]):
        return None
    if node.op == "ReverseV2":
        axes = [int(axis) % len(shape) for axis in graph.const(node.inputs[1])]
    else:
        axes = _sliced_backwards(graph, node, len(shape))
    if len(axes) != 1 or shape[axes[0]] is None:
        return None
    return axes[0], np.arange(shape[axes[0]] or 0)[::-1]


def _sliced_backwards(graph: Graph, node: Node, rank: int) -> list[int]:
    """The axes that a slice like `x[..., ::-1]` reverses; [] where it does anything else."""
    strides = graph.const(node.inputs[3]).tolist()
    begin, end, ellipsis = node.attr("begin_mask"), node.attr("end_mask"), node.attr("ellipsis_mask")
    if node.attr("new_axis_mask") or node.attr("shrink_axis_mask"):
        return []
    axes, axis = [], 0
    for i, stride in enumerate(strides):
        if ellipsis >> i & 1:
            axis += rank - len(strides) + 1
            continue
        if stride not in (1, -1) or not begin >> i & 1 or not end >> i & 1:
            return []
        if stride == -1:
            axes.append(axis)
        axis += 1
    return axes


def reorder_through(graph: Graph, node: Node, side: int, tensor: str, order: PerChannel) -> tuple[str, PerChannel]:
    """`node` on the channels in their first order, and the order behind it; Decline where it mixes channels."""
    inputs = list(node.inputs)
    inputs[side] = tensor
    if node.op in ELEMENTWISE:
        return graph.copy_of(node, inputs), order
    if node.op in BINARY or node.op == "BiasAdd":
        inputs[1 - side] = _constant_reordered(graph, node, node.inputs[1 - side], order)
        return graph.copy_of(node, inputs), order
    if node.op in RESIZES and order.axis == 3:
        return graph.copy_of(node, inputs), order
    if node.op in COMMUTING:
        behind = COMMUTING[node.op].forth(graph, node, order)
        if len(behind.values) == len(order.values):
            return graph.copy_of(node, inputs), behind
    raise Decline(f'{node.op} "{node.name}" may mix channels')


def _constant_reordered(graph: Graph, node: Node, constant: str, order: PerChannel) -> str:
    """x[order] + c = (x + c[inverse])[order]."""
    value = graph.const(constant)
    rank, axis = len(dims(graph, node.name)), order.axis or 0
    at = value.ndim - (rank - axis)
    if node.op == "BiasAdd":
        at = 0
    if at < 0 or value.shape[at] == 1:
        return constant
    if value.shape[at] != len(order.values):
        raise Decline(f'{node.op} "{node.name}" broadcasts its data')
    inverse = np.argsort(order.values)
    if graph.dtype(constant).startswith("float"):
        return graph.add_const(graph.exact(constant).take(inverse, at), graph.dtype(constant), constant)
    return graph.add_const(value.take(inverse, at), name=constant)
