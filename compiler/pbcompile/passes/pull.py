"""Look upwards from a linear op for a scale or a shift in what it reads, and take it out.

`pull(graph, x, kind)` adds nodes that compute x' with x = x' · s (or x' + t) and returns x' and the numbers, for the
linear op to take into its weights.  Raises Decline where something stands between.  The affine itself may have other
readers: it then stays for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pbcompile.graph import Decline, Graph, Node
from pbcompile.passes.affine import Array, PerChannel, read_per_channel
from pbcompile.passes.carry import MAX_DEPTH, bias_axis, constant_side
from pbcompile.passes.commute import COMMUTING, dims, require_passes_scale, require_passes_shift
from pbcompile.passes.linear import LINEAR

ADDITIONS = frozenset({"AddV2", "Add", "Sub", "BiasAdd"})
BINARY = frozenset({"AddV2", "Add", "Sub", "Mul", "RealDiv", "Maximum", "Minimum"})


@dataclass(frozen=True)
class Pulled:
    """`tensor` is what is left when `numbers` are taken out; `source` is the node that they came from."""

    tensor: str
    numbers: PerChannel
    source: Node


@dataclass(frozen=True)
class Kind:
    """One kind of thing to pull.

    read:    the numbers of a node that is one, with its data input; None for any other node
    through: what is left of a node (with its data input replaced) when the numbers are taken out of its input, and
             the numbers behind it; Decline where they do not pass
    passes:  ops to look through
    """

    read: Callable[[Graph, Node], tuple[str, PerChannel] | None]
    through: Callable[[Graph, Node, int, Pulled], Pulled]
    passes: frozenset[str]


def data_sides(graph: Graph, node: Node, kind: Kind) -> tuple[int, ...]:
    """The inputs that may hold what is pulled: the one that is no constant; of a product of two, either."""
    if node.op not in BINARY:
        return (0,)
    side = constant_side(graph, node)
    if side is not None:
        return (1 - side,)
    return (0, 1) if node.op == "Mul" and kind is KINDS["scale"] else ()


def find(graph: Graph, tensor: str, kind: Kind) -> Node | None:
    """The nearest affine of this kind above `tensor`, through what such an affine may pass."""
    waiting, seen = [tensor], {tensor}
    while waiting and len(seen) <= MAX_DEPTH:
        node = graph.producer_of(at := waiting.pop())
        if at != node.name or not node.inputs:
            continue
        if kind.read(graph, node) is not None:
            return node
        if node.op in kind.passes:
            above = [node.inputs[side] for side in data_sides(graph, node, kind)]
            waiting += [given for given in above if given not in seen]
            seen.update(above)
    return None


def pull(graph: Graph, tensor: str, kind: Kind, depth: int = 0) -> Pulled:
    """Take the nearest affine of this kind above `tensor` out of it."""
    node = graph.producer_of(tensor)
    if tensor != node.name or depth > MAX_DEPTH or not node.inputs:
        raise Decline(f'"{tensor}" holds nothing to take out')
    found = kind.read(graph, node)
    if found is not None:
        return Pulled(*found, node)
    graph.require_sole_reader(node)
    declined = Decline(f'{node.op} "{node.name}" has two data inputs')
    for side in data_sides(graph, node, kind):
        mark = graph.mark()
        try:
            return kind.through(graph, node, side, pull(graph, node.inputs[side], kind, depth + 1))
        except Decline as decline:
            graph.undo(mark)
            declined = decline
    raise declined


def with_input(graph: Graph, node: Node, side: int, tensor: str) -> str:
    """A copy of `node` that reads `tensor` at `side`."""
    inputs = list(node.inputs)
    inputs[side] = tensor
    return graph.copy_of(node, inputs)


def with_constant(graph: Graph, node: Node, side: int, data: str, value: Array) -> str:
    """A copy of the binary `node` that reads `data` at `side` and the constant `value` at the other."""
    other = node.inputs[1 - side]
    constant = graph.add_const(value, graph.dtype(other), other)
    return graph.copy_of(node, (data, constant) if side == 0 else (constant, data))


# ---- scales -----------------------------------------------------------------------------------------------------


def _read_scale(graph: Graph, node: Node) -> tuple[str, PerChannel] | None:
    if node.op == "Mul" and (side := constant_side(graph, node)) is not None:
        value = graph.exact(node.inputs[side])
    elif node.op == "RealDiv" and constant_side(graph, node) == 1 and graph.exact(node.inputs[1]).all():
        side, value = 1, 1.0 / graph.exact(node.inputs[1])
    else:
        return None
    return _per_channel(graph, node.inputs[1 - side], value)


def _per_channel(graph: Graph, data: str, value: Array) -> tuple[str, PerChannel] | None:
    shape = graph.shape(data)
    if shape is None or not graph.dtype(data).startswith(("float", "bfloat")):
        return None
    numbers = read_per_channel(value, shape)
    return None if numbers is None else (data, numbers)


def _scale_through(graph: Graph, node: Node, side: int, pulled: Pulled) -> Pulled:
    """x · s + c = (x + c/s) · s: the addition stays, the scale goes on."""
    numbers = pulled.numbers
    if node.op in ADDITIONS:
        if not numbers.values.all():
            raise Decline(f"a factor of zero hides what {node.op} adds", pulled.source.name)
        if node.op == "BiasAdd" and numbers.axis not in (None, bias_axis(graph, node)):
            raise Decline(f'"{node.name}" adds along another axis', pulled.source.name)
        if dims(graph, node.inputs[side]) != dims(graph, node.name):
            raise Decline(f'{node.op} "{node.name}" broadcasts its data', pulled.source.name)
        constant = graph.exact(node.inputs[1 - side])
        rank = len(dims(graph, node.name))
        factor = numbers.vector(constant.size) if node.op == "BiasAdd" else numbers.shaped(rank)
        moved = np.asarray(constant / factor)
        if np.abs(moved).max() > np.finfo(np.float32).max:
            raise Decline("a factor is so small that the shift before it overflows", pulled.source.name)
        return Pulled(with_constant(graph, node, side, pulled.tensor, moved), numbers, pulled.source)
    if node.op == "Mul":  # (x · s) · y = (x · y) · s
        if numbers.axis is not None and not _keeps_channels(graph, node, side, numbers.axis):
            raise Decline(f'Mul "{node.name}" broadcasts its data', pulled.source.name)
        return Pulled(with_input(graph, node, side, pulled.tensor), numbers, pulled.source)
    try:
        require_passes_scale(node, numbers)
        behind = COMMUTING[node.op].forth(graph, node, numbers)
    except Decline as decline:
        raise Decline(str(decline), pulled.source.name) from decline
    return Pulled(with_input(graph, node, side, pulled.tensor), behind, pulled.source)


def _keeps_channels(graph: Graph, node: Node, side: int, axis: int) -> bool:
    given, made = dims(graph, node.inputs[side]), dims(graph, node.name)
    return len(given) == len(made) and given[axis] == made[axis]


# ---- shifts -----------------------------------------------------------------------------------------------------


def _read_shift(graph: Graph, node: Node) -> tuple[str, PerChannel] | None:
    if node.op == "BiasAdd" and graph.is_const(node.inputs[1]):
        if graph.producer_of(node.inputs[0]).op in LINEAR:
            return None  # the bias of a convolution costs nothing where it is
        return node.inputs[0], PerChannel(graph.exact(node.inputs[1]), bias_axis(graph, node))
    if node.op in ("AddV2", "Add") and (side := constant_side(graph, node)) is not None:
        return _per_channel(graph, node.inputs[1 - side], graph.exact(node.inputs[side]))
    if node.op == "Sub" and constant_side(graph, node) == 1:
        return _per_channel(graph, node.inputs[0], -graph.exact(node.inputs[1]))
    return None


def _shift_through(graph: Graph, node: Node, side: int, pulled: Pulled) -> Pulled:
    """Averages, maxima and copies of x + t are those of x, plus t."""
    try:
        require_passes_shift(graph, node)
        behind = COMMUTING[node.op].forth(graph, node, pulled.numbers)
    except Decline as decline:
        raise Decline(str(decline), pulled.source.name) from decline
    return Pulled(with_input(graph, node, side, pulled.tensor), behind, pulled.source)


KINDS: Mapping[str, Kind] = {
    "scale": Kind(_read_scale, _scale_through, frozenset(COMMUTING) | ADDITIONS | {"Mul"}),
    "shift": Kind(_read_shift, _shift_through, frozenset(COMMUTING)),
}
"""What can be pulled into a linear op."""
