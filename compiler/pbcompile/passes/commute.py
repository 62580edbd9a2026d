"""Which ops a per-channel scale, shift or permutation passes, and where its channels are on the other side.

For an op f of this table, f(x · s) = f(x) · s' and f(x + t) = f(x) + t', where s' and t' are the same numbers along
the channel axis of the output.  `back` takes numbers from the output's axis to the input's, `forth` the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from pbcompile.graph import Decline, Graph, Node
from pbcompile.passes.affine import PerChannel

Move = Callable[[Graph, Node, PerChannel], PerChannel]
Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Commuting:
    """How an op (of its input 0) commutes.

    scale: with "any" number, with "positive" ones only, or with "none"
    shift: whether constants pass: every output is an average, a maximum or a copy of inputs
    """

    scale: Literal["any", "positive", "none"]
    shift: bool
    back: Move
    forth: Move


def require_passes_scale(node: Node, numbers: PerChannel) -> None:
    """Decline unless a scale by these numbers commutes with `node`."""
    passes = COMMUTING[node.op].scale if node.op in COMMUTING else "none"
    if passes == "none":
        raise Decline(f'{node.op} "{node.name}" does not commute with a scale')
    if passes == "positive" and not numbers.is_positive:
        raise Decline(f'{node.op} "{node.name}" does not commute with a scale that is not positive')


def require_passes_shift(graph: Graph, node: Node) -> None:
    """Decline unless a shift commutes with `node`."""
    if node.op not in COMMUTING or not COMMUTING[node.op].shift:
        raise Decline(f'{node.op} "{node.name}" does not commute with a shift')
    if node.op == "SpaceToBatchND" and graph.const(node.inputs[2]).any():
        raise Decline(f'SpaceToBatchND "{node.name}" pads with zeros')


def dims(graph: Graph, tensor: str) -> Dims:
    """The static shape; Decline where the rank is unknown."""
    shape = graph.shape(tensor)
    if shape is None:
        raise Decline(f'the rank of "{tensor}" is unknown')
    return shape


def require_const(graph: Graph, node: Node, *indices: int) -> None:
    """Decline unless these inputs are constants."""
    for index in indices:
        if not graph.is_const(node.inputs[index]):
            raise Decline(f'{node.op} "{node.name}" is told what to do while it runs')


def _same(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    return numbers


def _beyond(graph: Graph, node: Node, axis: int | None, touched: set[int]) -> None:
    if axis is not None and axis in touched:
        raise Decline(f'{node.op} "{node.name}" works along the channels')


def _untouched_by_pads(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    require_const(graph, node, 1)
    padded = {int(i) for i in np.flatnonzero(graph.const(node.inputs[1]).any(axis=1))}
    _beyond(graph, node, numbers.axis, padded)
    return numbers


def _untouched_by_pool(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    window = node.attr("ksize")
    _beyond(graph, node, numbers.axis, {i for i, size in enumerate(window) if size != 1})
    return numbers


def _untouched_by_blocks(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    require_const(graph, node, 1, 2)
    _beyond(graph, node, numbers.axis, set(range(1 + graph.const(node.inputs[1]).size)))
    return numbers


def _untouched_by_resize(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    if not graph.dtype(node.inputs[0]).startswith(("float", "bfloat")):
        raise Decline(f'{node.op} "{node.name}" reads {graph.dtype(node.inputs[0])}')
    _beyond(graph, node, numbers.axis, {0, 1, 2})
    return numbers


def _untouched_by_slice(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    """A slice with the same rank and the same number of channels leaves the channels as they are."""
    given, made = dims(graph, node.inputs[0]), dims(graph, node.name)
    if node.op == "StridedSlice":
        require_const(graph, node, 1, 2, 3)
        if node.attr("new_axis_mask") or node.attr("shrink_axis_mask") or (graph.const(node.inputs[3]) < 0).any():
            raise Decline(f'StridedSlice "{node.name}" does more than cut')
    if numbers.axis is not None and (given[numbers.axis] is None or given[numbers.axis] != made[numbers.axis]):
        raise Decline(f'{node.op} "{node.name}" works along the channels')
    return numbers


# ---- axes that move ---------------------------------------------------------------------------------------------


def _transpose_back(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    require_const(graph, node, 1)
    return numbers if numbers.axis is None else numbers.at(int(graph.const(node.inputs[1])[numbers.axis]))


def _transpose_forth(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    require_const(graph, node, 1)
    return numbers if numbers.axis is None else numbers.at(graph.const(node.inputs[1]).tolist().index(numbers.axis))


def _reduced(graph: Graph, node: Node) -> set[int]:
    require_const(graph, node, 1)
    rank = len(dims(graph, node.inputs[0]))
    return {int(axis) % rank for axis in graph.const(node.inputs[1]).reshape(-1)}


def _reduce_back(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    gone = _reduced(graph, node)
    if numbers.axis is None or node.attr("keep_dims"):
        _beyond(graph, node, numbers.axis, gone)
        return numbers
    kept = [axis for axis in range(len(dims(graph, node.inputs[0]))) if axis not in gone]
    return numbers.at(kept[numbers.axis])


def _reduce_forth(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    gone = _reduced(graph, node)
    _beyond(graph, node, numbers.axis, gone)
    if numbers.axis is None or node.attr("keep_dims"):
        return numbers
    return numbers.at(numbers.axis - sum(axis < numbers.axis for axis in gone))


def _reshape_back(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    return _same_places(graph, node, numbers, dims(graph, node.name), dims(graph, node.inputs[0]))


def _reshape_forth(graph: Graph, node: Node, numbers: PerChannel) -> PerChannel:
    given, made = dims(graph, node.inputs[0]), dims(graph, node.name)
    try:
        return _same_places(graph, node, numbers, given, made)
    except Decline:
        return _flattened(node, numbers, given, made)


def _same_places(graph: Graph, node: Node, numbers: PerChannel, here: Dims, there: Dims) -> PerChannel:
    """Channels keep their place in memory where the axis has their size and as many elements lie behind it."""
    if numbers.axis is None:
        return numbers
    behind = _product(here[numbers.axis + 1 :])
    for axis in reversed(range(len(there))):
        if there[axis] == len(numbers.values):
            if behind is not None and _product(there[axis + 1 :]) == behind:
                return numbers.at(axis)
            if here[: numbers.axis] == there[:axis] and None not in here[: numbers.axis]:
                return numbers.at(axis)
    raise Decline(f'{node.op} "{node.name}" does not keep the channels')


def _flattened(node: Node, numbers: PerChannel, given: Dims, made: Dims) -> PerChannel:
    """Flattening [.., C, P] to [K·C·P]: each number P times, and the whole K times."""
    last = made[-1] if made else None
    behind = _product(given[(numbers.axis or 0) + 1 :])
    if numbers.axis is None or last is None or behind is None or last % (len(numbers.values) * behind):
        raise Decline(f'{node.op} "{node.name}" does not keep the channels')
    repeated = np.repeat(numbers.values, behind)
    return PerChannel(np.tile(repeated, last // len(repeated)), len(made) - 1)


def _product(sizes: Dims) -> int | None:
    return None if None in sizes else prod(size for size in sizes if size is not None)


_ALONG = (_same, _same)
_PAD = (_untouched_by_pads, _untouched_by_pads)
_POOL = (_untouched_by_pool, _untouched_by_pool)
_BLOCKS = (_untouched_by_blocks, _untouched_by_blocks)
_RESIZE = (_untouched_by_resize, _untouched_by_resize)
_SLICE = (_untouched_by_slice, _untouched_by_slice)
_REDUCE = (_reduce_back, _reduce_forth)
_RESHAPE = (_reshape_back, _reshape_forth)

COMMUTING: Mapping[str, Commuting] = {
    "Identity": Commuting("any", True, *_ALONG),
    "Reshape": Commuting("any", True, *_RESHAPE),
    "Squeeze": Commuting("any", True, *_RESHAPE),
    "ExpandDims": Commuting("any", True, *_RESHAPE),
    "Transpose": Commuting("any", True, _transpose_back, _transpose_forth),
    "AvgPool": Commuting("any", True, *_POOL),  # TensorFlow does not count the padding
    "AvgPool3D": Commuting("any", True, *_POOL),
    "MaxPool": Commuting("positive", True, *_POOL),
    "MaxPool3D": Commuting("positive", True, *_POOL),
    "Mean": Commuting("any", True, *_REDUCE),
    "Sum": Commuting("any", False, *_REDUCE),
    "Max": Commuting("positive", True, *_REDUCE),
    "Min": Commuting("positive", True, *_REDUCE),
    "Pad": Commuting("any", False, *_PAD),
    "MirrorPad": Commuting("any", True, *_PAD),
    "SpaceToBatchND": Commuting("any", True, *_BLOCKS),
    "BatchToSpaceND": Commuting("any", True, *_BLOCKS),
    "ResizeNearestNeighbor": Commuting("any", True, *_RESIZE),
    "ResizeBilinear": Commuting("any", True, *_RESIZE),
    "ResizeArea": Commuting("any", True, *_RESIZE),
    "ResizeBicubic": Commuting("any", False, *_RESIZE),  # its legacy weights do not sum to 1 at the border
    "Slice": Commuting("any", True, *_SLICE),
    "StridedSlice": Commuting("any", True, *_SLICE),
    "Relu": Commuting("positive", False, *_ALONG),
    "LeakyRelu": Commuting("positive", False, *_ALONG),
}
"""Ops of one data input that commute, each by its definition; the tests prove every line on random numbers."""
