"""Carry a per-channel scale or shift backwards through the graph, until something linear takes it in.

`carry_scale(graph, y, s)` adds nodes that compute y · s without a multiplication; `carry_shift` likewise y + t.
Both only add nodes, and raise Decline with the reason where the way is blocked, so that the caller can take
everything back.  What they go through commutes with the scale or shift exactly: see commute.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from pbcompile.graph import Decline, Graph, Node
from pbcompile.passes import affine
from pbcompile.passes.affine import Array, PerChannel
from pbcompile.passes.commute import COMMUTING, dims, require_const, require_passes_scale, require_passes_shift
from pbcompile.passes.linear import LINEAR, channel_axis, require_foldable, weights_transposed

MAX_DEPTH = 64
"""Ops between an affine and the linear op that takes it in; real graphs have fewer than ten."""
CLONE_LIMIT = 4 << 20
"""Bytes of weights that may be copied when two ops share them and only one of them changes."""
BROADCAST_LIMIT = 1 << 16
"""Elements that a constant may grow to when a per-channel vector is merged into it."""


@dataclass(frozen=True)
class Load:
    """What is carried: the numbers, and the labels of the batch norms that they belong to."""

    numbers: PerChannel
    labels: frozenset[str] = frozenset()
    depth: int = 0

    def along(self, numbers: PerChannel) -> Load:
        """The load one op further back."""
        return Load(numbers, self.labels, self.depth + 1)


Carrier = Callable[[Graph, Node, Load], str]
Carry = Callable[[Graph, str, Load], str]


def carry_scale(graph: Graph, tensor: str, load: Load) -> str:
    """A tensor equal to `tensor` · scale; Decline where that takes a multiplication."""
    node = _next(graph, tensor, load)
    if node.op in LINEAR:
        return _scale_weights(graph, node, load)
    if node.op in SCALE_ENDS:
        return SCALE_ENDS[node.op](graph, node, load)
    if node.op == "ConcatV2":
        return _through_concat(graph, node, load, carry_scale)
    require_passes_scale(node, load.numbers)
    return _through(graph, node, load, carry_scale)


def carry_shift(graph: Graph, tensor: str, load: Load) -> str:
    """A tensor equal to `tensor` + shift; Decline where that takes one more addition."""
    node = _next(graph, tensor, load)
    if node.op in LINEAR:
        return _add_bias(graph, node, load)
    if node.op in SHIFT_ENDS:
        return SHIFT_ENDS[node.op](graph, node, load)
    if node.op == "ConcatV2":
        return _through_concat(graph, node, load, carry_shift)
    if node.op == "Mul":
        raise Decline("the scale before the shift stays")
    require_passes_shift(graph, node)
    return _through(graph, node, load, carry_shift)


def _next(graph: Graph, tensor: str, load: Load) -> Node:
    node = graph.producer_of(tensor)
    if tensor != node.name:
        raise Decline(f'"{tensor}" is one of several outputs')
    if load.depth > MAX_DEPTH:
        raise Decline(f"nothing linear within {MAX_DEPTH} ops")
    if not graph.dtype(tensor).startswith(("float", "bfloat")):
        raise Decline(f'"{tensor}" is {graph.dtype(tensor)}')
    axis = load.numbers.axis
    if axis is not None and dims(graph, tensor)[axis] != len(load.numbers.values):
        raise Decline(f'"{tensor}" does not have the channels of the affine')
    graph.require_sole_reader(node)
    return node


# ---- what it passes -------------------------------------------------------------------------------------------


def _through(graph: Graph, node: Node, load: Load, carry: Carry) -> str:
    """f(x) · s = f(x · s'), with the numbers along the input's channel axis."""
    before = COMMUTING[node.op].back(graph, node, load.numbers)
    data = carry(graph, node.inputs[0], load.along(before))
    return graph.copy_of(node, (data, *node.inputs[1:]))


def _through_concat(graph: Graph, node: Node, load: Load, carry: Carry) -> str:
    """Along the channels each part takes its slice; along another axis every part takes all."""
    require_const(graph, node, len(node.inputs) - 1)
    axis = int(graph.const(node.inputs[-1])) % len(dims(graph, node.name))
    start, parts = 0, []
    for part in node.inputs[:-1]:
        size = dims(graph, part)[axis]
        numbers = load.numbers
        if numbers.axis == axis:
            if size is None:
                raise Decline(f'"{part}" has an unknown number of channels')
            numbers, start = numbers.part(start, start + size), start + size
        parts.append(carry(graph, part, load.along(numbers)))
    return graph.copy_of(node, (*parts, node.inputs[-1]))


# ---- where a load ends ----------------------------------------------------------------------------------------


def _scale_weights(graph: Graph, node: Node, load: Load) -> str:
    """op(x, W) · s = op(x, W · s), where s is one number per output channel."""
    require_foldable(graph, node)
    ports = LINEAR[node.op]
    axis = channel_axis(graph, node, node.name)
    channels = dims(graph, node.name)[axis]
    if channels is None or load.numbers.axis not in (None, axis):
        raise Decline(f'the scale is not one number per output channel of {node.op} "{node.name}"')
    weights = node.inputs[ports.weights]
    if len(graph.readers(weights)) > 1 and graph.const(weights).nbytes > CLONE_LIMIT:
        raise Decline(f"the weights are shared, and a copy would cost {graph.const(weights).nbytes} bytes")
    scaled = affine.scale_outputs(
        node.op, graph.weights(weights), load.numbers.vector(channels), weights_transposed(node)
    )
    given = list(node.inputs)
    given[ports.weights] = graph.add_const(scaled, graph.dtype(weights), f"{graph.asked_name(node)}/weights")
    made = graph.copy_of(node, given)
    graph.label(made, absorbed=load.labels)
    return made


def _add_bias(graph: Graph, node: Node, load: Load) -> str:
    """Right behind a linear op the shift becomes its bias: the form that TensorFlow's runtime fuses (facts 3)."""
    if not graph.is_const(node.inputs[LINEAR[node.op].weights]):
        raise Decline(f'the weights of {node.op} "{node.name}" are no constant')
    axis = channel_axis(graph, node, node.name)
    shape = dims(graph, node.name)
    channels = shape[axis]
    if channels is None or load.numbers.axis not in (None, axis):
        raise Decline(f'the shift is not one number per output channel of {node.op} "{node.name}"')
    bias = graph.add_const(load.numbers.vector(channels), graph.dtype(node.name), f"{graph.asked_name(node)}/bias")
    attrs = {} if axis == len(shape) - 1 else {"data_format": "NCHW"}
    made = graph.add("BiasAdd", [node.name, bias], attrs, f"{graph.asked_name(node)}/BiasAdd")
    graph.label(made, absorbed=load.labels)
    return made


# ---- additions and multiplications by constants ---------------------------------------------------------------


def constant_side(graph: Graph, node: Node) -> int | None:
    """Which of a binary op's two inputs is a constant; None where neither or both are."""
    sides = [i for i in (0, 1) if graph.is_const(node.inputs[i])]
    return sides[0] if len(sides) == 1 else None


def _merged(graph: Graph, node: Node, side: int, load: Load, multiply: bool) -> Array:
    """The constant of `node` times (or plus) the load."""
    constant = graph.exact(node.inputs[side])
    rank = len(dims(graph, node.name))
    if node.op == "BiasAdd":
        made = load.numbers.vector(constant.size)
        return constant * made if multiply else constant + made
    numbers = load.numbers.shaped(rank)
    size = prod(np.broadcast_shapes(constant.shape, numbers.shape))
    if size > max(BROADCAST_LIMIT, constant.size):
        raise Decline(f'the constant of {node.op} "{node.name}" would grow to {size} elements')
    return np.asarray(constant * numbers if multiply else constant + numbers)


def _with_constant(graph: Graph, node: Node, side: int, data: str, value: Array) -> str:
    constant = graph.add_const(value, graph.dtype(node.inputs[side]), node.inputs[side])
    return graph.copy_of(node, (data, constant) if side else (constant, data))


def _scale_addition(graph: Graph, node: Node, load: Load) -> str:
    """(x + c) · s = x · s + c · s, and (a + b) · s = a · s + b · s."""
    side = 1 if node.op == "BiasAdd" else constant_side(graph, node)
    if side is None:
        return _both_sides(graph, node, load)
    if not graph.is_const(node.inputs[side]):
        raise Decline(f'the bias of "{node.name}" is no constant')
    _require_same_shape(graph, node, node.inputs[1 - side])
    _require_bias_axis(graph, node, load)
    data = carry_scale(graph, node.inputs[1 - side], load.along(load.numbers))
    return _with_constant(graph, node, side, data, _merged(graph, node, side, load, multiply=True))


def _both_sides(graph: Graph, node: Node, load: Load) -> str:
    for given in node.inputs:
        _require_same_shape(graph, node, given)
    carried = [carry_scale(graph, given, load.along(load.numbers)) for given in node.inputs]
    return graph.copy_of(node, carried)


def _require_same_shape(graph: Graph, node: Node, tensor: str) -> None:
    out, given = dims(graph, node.name), dims(graph, tensor)
    if len(out) != len(given):
        raise Decline(f'{node.op} "{node.name}" broadcasts "{tensor}"')


def _require_bias_axis(graph: Graph, node: Node, load: Load) -> None:
    if node.op == "BiasAdd" and load.numbers.axis not in (None, bias_axis(graph, node)):
        raise Decline(f'the affine is not along the channels of "{node.name}"')


def bias_axis(graph: Graph, node: Node) -> int:
    """The axis that a BiasAdd adds along."""
    return 1 if node.attr("data_format").startswith("NC") else len(dims(graph, node.name)) - 1


def _scale_multiplication(graph: Graph, node: Node, load: Load) -> str:
    """(x · c) · s = x · (c · s), (x / c) · s = x · (s / c), and (a · b) · s = (a · s) · b."""
    side = constant_side(graph, node)
    if side is None:
        return _into_either_side(graph, node, load, carry_scale)
    if node.op == "RealDiv" and side == 0:
        raise Decline(f'RealDiv "{node.name}" divides by its data')
    if node.op == "RealDiv":
        constant = graph.exact(node.inputs[side])
        if not constant.all():
            raise Decline(f'{node.op} "{node.name}" divides by zero')
        numbers = load.numbers.shaped(len(dims(graph, node.name))) / constant
        factor = graph.add_const(np.asarray(numbers), graph.dtype(node.name), node.inputs[side])
        made = graph.add("Mul", [node.inputs[0], factor], name=node.name)
        graph.label(made, node.stands_for, node.absorbed)
    else:
        made = _with_constant(graph, node, side, node.inputs[1 - side], _merged(graph, node, side, load, multiply=True))
    graph.label(made, stands_for=load.labels)
    return made


def _shift_addition(graph: Graph, node: Node, load: Load) -> str:
    """(x + c) + t = x + (c + t); (a + b) + t goes into either side."""
    side = 1 if node.op == "BiasAdd" else constant_side(graph, node)
    if side is None:
        return _into_either_side(graph, node, load, carry_shift)
    if not graph.is_const(node.inputs[side]):
        raise Decline(f'the bias of "{node.name}" is no constant')
    _require_bias_axis(graph, node, load)
    subtracted = node.op == "Sub" and side == 1
    given = load if not subtracted else load.along(PerChannel(-load.numbers.values, load.numbers.axis))
    value = _merged(graph, node, side, given, multiply=False)
    made = _with_constant(graph, node, side, node.inputs[1 - side], value)
    if node.op == "BiasAdd":
        graph.label(made, absorbed=load.labels)
    else:
        graph.label(made, stands_for=load.labels)
    return made


def _into_either_side(graph: Graph, node: Node, load: Load, carry: Carry) -> str:
    """Into the first side that takes it; what is subtracted or divided by takes nothing."""
    reasons = []
    for side, given in enumerate(node.inputs if node.op not in ("Sub", "RealDiv") else node.inputs[:1]):
        mark = graph.mark()
        try:
            _require_same_shape(graph, node, given)
            carried = carry(graph, given, load.along(load.numbers))
        except Decline as decline:
            graph.undo(mark)
            reasons.append(str(decline))
            continue
        inputs = list(node.inputs)
        inputs[side] = carried
        return graph.copy_of(node, inputs)
    raise Decline("; ".join(dict.fromkeys(reasons)))


SCALE_ENDS: Mapping[str, Carrier] = {
    "AddV2": _scale_addition,
    "Add": _scale_addition,
    "Sub": _scale_addition,
    "BiasAdd": _scale_addition,
    "Mul": _scale_multiplication,
    "RealDiv": _scale_multiplication,
}
"""Additions, which a scale passes with their constant, and multiplications, in which it ends."""

SHIFT_ENDS: Mapping[str, Carrier] = {
    "AddV2": _shift_addition,
    "Add": _shift_addition,
    "Sub": _shift_addition,
    "BiasAdd": _shift_addition,
}
"""Additions: a shift ends in their constant, or goes into one side."""
