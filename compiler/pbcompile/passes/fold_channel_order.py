"""Fold permutations of channels (RGB to BGR) into the weights of the convolutions that end up reading them."""

from __future__ import annotations

import numpy as np

from pbcompile.graph import Decline, Declined, Graph, Node, Outcome
from pbcompile.graph.tensors import split_tensor
from pbcompile.passes.affine import PerChannel
from pbcompile.passes.commute import COMMUTING, dims
from pbcompile.passes.linear import LINEAR, require_foldable, weights_transposed
from pbcompile.passes.rounding import require_not_rounded

# fmt: off
ELEMENTWISE = frozenset(
    {
        "Cast", "Relu", "Relu6", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Round", "Rint", "Floor", "Ceil", "Neg",
        "Square", "Sqrt", "Rsqrt", "Abs", "Sign", "Exp", "Log", "ClipByValue", "AddV2", "Add", "Sub", "Mul",
        "RealDiv", "Div", "FloorDiv", "FloorMod", "Maximum", "Minimum", "SquaredDifference", "Pow", "SelectV2",
        "RightShift", "LeftShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Invert", "Greater", "GreaterEqual",
        "Less", "LessEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "AddN",
    }
)
# fmt: on
"""Ops that treat every number apart, whatever their number of inputs."""
RESIZES = frozenset({"ResizeNearestNeighbor", "ResizeBilinear", "ResizeArea", "ResizeBicubic"})
ABSORBING = frozenset({"Conv2D", "Conv3D", "MatMul", "BatchMatMulV2", "Einsum"})
ASKING = frozenset({"Shape", "Size", "Rank"})
"""Ops that see only the shape, which no permutation changes."""

Edits = list[tuple[Node, int, str]]


def fold_channel_order(graph: Graph) -> Outcome:
    """Let everything behind a permutation of channels run in the channels' first order.

    Before:  x ─► ReverseV2(channels) ─► [what treats channels apart: resize, cast, mean, …] ─► Conv(W) ─► y
    After:   x ─► [the same, with its constants per channel reversed] ─► Conv(W, input channels reversed) ─► y

    Exact, up to the order in which the products of one output are summed.  The permutation may be a ReverseV2, a
    gather or a slice with stride −1, and whole nets of ops (a resize written out in gathers and sums) may lie between.
    Reversing a frame of 1080×1920 takes 5.8 ms as ReverseV2, 52 ms as a gather, 188 ms as a slice; 480×640 0.7 ms.
    Declines when:
      1. something behind it is a graph output: it would come out in the wrong order
      2. something behind it mixes channels, or joins them with others
      3. a convolution behind it reads its channels in groups
      4. the weights are no constant, or their sums are rounded (rounding.py)
    """
    outcome = Outcome()
    for node in reversed(graph.sorted()):
        found = order_of(graph, node)
        if found is None:
            continue
        mark = graph.mark()
        try:
            edits = _Region(graph).edits(node, found[1])
        except Decline as decline:
            graph.undo(mark)
            outcome.declined.append(Declined("fold-channel-order", node.name, str(decline)))
            continue
        for reader, index, tensor in edits:
            graph.replace_input(reader, index, tensor)
        graph.redirect(node.name, found[0])
        graph.commit()
        outcome.applied += 1
    return outcome


# ---- what is a permutation --------------------------------------------------------------------------------------


def order_of(graph: Graph, node: Node) -> tuple[str, PerChannel] | None:
    """The data input and the order of a node that only permutes an axis: out[c] = in[order[c]]."""
    if node.op not in ("ReverseV2", "GatherV2", "StridedSlice"):
        return None
    shape = graph.shape(node.inputs[0])
    if shape is None or not all(graph.is_const(tensor) for tensor in node.inputs[1:]):
        return None
    axis, order = (_gathered if node.op == "GatherV2" else _reversed)(graph, node, shape)
    size = shape[axis] if axis is not None else None
    if size is None or axis == 0:
        return None
    numbers = np.arange(size)[::-1] if order is None else np.asarray(order)
    if numbers.ndim != 1 or sorted(numbers.tolist()) != list(range(size)):
        return None
    return node.inputs[0], PerChannel(numbers.astype(np.float64), axis)


def _gathered(graph: Graph, node: Node, shape: tuple[int | None, ...]) -> tuple[int | None, list[int] | None]:
    if node.attr("batch_dims"):
        return None, None
    indices = graph.const(node.inputs[1])
    return int(graph.const(node.inputs[2])) % len(shape), indices.tolist()


def _reversed(graph: Graph, node: Node, shape: tuple[int | None, ...]) -> tuple[int | None, list[int] | None]:
    if node.op == "ReverseV2":
        axes = [int(axis) % len(shape) for axis in graph.const(node.inputs[1])]
    else:
        axes = _sliced_backwards(graph, node, len(shape))
    return (axes[0] if len(axes) == 1 else None), None


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


# ---- what lies behind it ----------------------------------------------------------------------------------------


class _Region:
    """The nodes between a permutation and the convolutions, each with the axis that is permuted."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.orders: dict[str, PerChannel] = {}
        self.made: Edits = []

    def edits(self, start: Node, order: PerChannel) -> Edits:
        """The inputs to replace so that the region can run without the permutation.  Raises Decline."""
        self.orders[start.name] = order
        self._require_private(start)
        inside = self._reach(start)
        for node in self.graph.sorted():
            if node.name in inside and node is not start:
                self._enter(node)
        return self.made

    def _reach(self, start: Node) -> set[str]:
        """Everything that reads the permuted channels, up to and including what absorbs them."""
        waiting, inside = [start], {start.name}
        while waiting:
            for reader in self.graph.all_readers(waiting.pop()):
                if reader.name not in inside and reader.op not in ASKING:
                    inside.add(reader.name)
                    if reader.op not in ABSORBING:
                        waiting.append(reader)
        return inside

    def _require_private(self, node: Node) -> None:
        if self.graph.is_public(node):
            raise Decline(f'"{node.name}" is a graph output')

    def _order(self, tensor: str) -> PerChannel | None:
        name, port = split_tensor(tensor)
        if port and name in self.orders:
            raise Decline(f'"{tensor}" is one of several outputs')
        return self.orders.get(name)

    def _enter(self, node: Node) -> None:
        orders = [self._order(tensor) for tensor in node.inputs]
        order = next((found for found in orders if found is not None), None)
        if order is None:
            return  # it read only what an absorbing op made
        if node.op in LINEAR:
            self._linear(node, order, orders)
            return
        self._require_private(node)
        if node.op in ELEMENTWISE:
            self.orders[node.name] = self._elementwise(node, orders)
        elif node.op == "GatherV2" and orders[1] is None:
            self.orders[node.name] = self._gather(node, order)
        elif node.op in RESIZES and order.axis == 3:
            self.orders[node.name] = order
        elif node.op in COMMUTING and not any(orders[1:]):
            behind = COMMUTING[node.op].forth(self.graph, node, order)
            if len(behind.values) != len(order.values):
                raise Decline(f'{node.op} "{node.name}" may mix channels')
            self.orders[node.name] = behind
        else:
            raise Decline(f'{node.op} "{node.name}" may mix channels')

    def _elementwise(self, node: Node, orders: list[PerChannel | None]) -> PerChannel:
        """Every input has the permuted channels, or a constant that can be permuted, or none at all there."""
        graph, rank = self.graph, len(dims(self.graph, node.name))
        axes = set()
        for tensor, order in zip(node.inputs, orders, strict=True):
            if order is not None and order.axis is not None:
                axes.add(order.axis + rank - len(dims(graph, tensor)))
        if len(axes) != 1:
            raise Decline(f'{node.op} "{node.name}" joins different axes')
        axis = axes.pop()
        order = next(found for found in orders if found is not None)
        for index, (tensor, own) in enumerate(zip(node.inputs, orders, strict=True)):
            shape = dims(graph, tensor)
            at = axis - (rank - len(shape))
            if own is not None or at < 0 or shape[at] == 1:
                continue
            if not graph.is_const(tensor) or shape[at] != len(order.values):
                raise Decline(f'{node.op} "{node.name}" joins the channels with others')
            self.made.append((node, index, self._permuted(tensor, order, at)))
        return order.at(axis)

    def _gather(self, node: Node, order: PerChannel) -> PerChannel:
        """Rows or columns picked from a picture keep their channels."""
        graph = self.graph
        if not graph.is_const(node.inputs[2]) or node.attr("batch_dims") or order.axis is None:
            raise Decline(f'GatherV2 "{node.name}" may mix channels')
        picked = int(graph.const(node.inputs[2])) % len(dims(graph, node.inputs[0]))
        if picked == order.axis:
            raise Decline(f'GatherV2 "{node.name}" picks channels')
        grown = len(dims(graph, node.inputs[1])) - 1
        return order.at(order.axis + (grown if picked < order.axis else 0))

    def _linear(self, node: Node, order: PerChannel, orders: list[PerChannel | None]) -> None:
        graph, ports = self.graph, LINEAR[node.op]
        if node.op == "DepthwiseConv2dNative":
            self._require_private(node)
        require_foldable(graph, node)
        require_not_rounded(graph, node)
        weights = node.inputs[ports.weights]
        data = dims(graph, node.inputs[ports.data])
        channels_first = "Conv" in node.op and node.attr("data_format").startswith("NC")
        if orders[ports.data] is None or order.axis != (1 if channels_first else len(data) - 1):
            raise Decline(f'{node.op} "{node.name}" does not read the channels as such')
        value = graph.const(weights)
        axis = value.ndim - (1 if weights_transposed(node) else 2)
        if value.shape[axis] != len(order.values):
            raise Decline(f'{node.op} "{node.name}" reads its channels in groups')
        if node.op == "DepthwiseConv2dNative" and value.shape[3] == 1:
            self.orders[node.name] = order
        elif node.op not in ABSORBING:
            raise Decline(f'{node.op} "{node.name}" keeps its channels apart')
        self.made.append((node, ports.weights, self._permuted(weights, order, axis)))

    def _permuted(self, tensor: str, order: PerChannel, axis: int) -> str:
        """x[order] with c is (x with c[inverse])[order]."""
        graph, inverse = self.graph, np.argsort(order.values)
        dtype = graph.dtype(tensor)
        if dtype.startswith("float"):
            return graph.add_const(graph.exact(tensor).take(inverse, axis), dtype, tensor)
        return graph.add_const(graph.const(tensor).take(inverse, axis), name=tensor)
