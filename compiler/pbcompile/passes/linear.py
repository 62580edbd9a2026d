"""Which ops are linear in their weights, and where in them the data, the weights and the channels are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pbcompile.graph import Decline, Graph, Node


@dataclass(frozen=True)
class Ports:
    """Input positions of a linear op."""

    data: int = 0
    weights: int = 1


LINEAR: Mapping[str, Ports] = {
    "Conv2D": Ports(),
    "Conv3D": Ports(),
    "DepthwiseConv2dNative": Ports(),
    "Conv2DBackpropInput": Ports(data=2, weights=1),
    "Conv3DBackpropInputV2": Ports(data=2, weights=1),
    "MatMul": Ports(),
    "BatchMatMulV2": Ports(),
    "Einsum": Ports(),
}
"""Ops y = W·x that weights can be folded into."""

CONVOLUTIONS = frozenset(op for op in LINEAR if "Conv" in op)

DENSE_EQUATION = re.compile(
    r"(?P<rows>[A-Za-z.]+)(?P<i>[A-Za-z]),(?:(?P=i)(?P<o>[A-Za-z])|(?P<ot>[A-Za-z])(?P=i))->(?P=rows)(?:(?P=o)|(?P=ot))"
)
"""`abc,cd->abd` or `abc,dc->abd`: an einsum that is a dense layer."""


def channel_axis(graph: Graph, node: Node, tensor: str) -> int:
    """The channel axis of a linear op's data input or output; Decline where the rank is unknown."""
    shape = graph.shape(tensor)
    if shape is None:
        raise Decline(f'the rank of "{tensor}" is unknown')
    if node.op in CONVOLUTIONS and node.attr("data_format").startswith("NC"):
        return 1
    return len(shape) - 1


def weights_transposed(node: Node) -> bool:
    """Whether a matmul reads its weights as [out, in]."""
    if node.op == "MatMul":
        return bool(node.attr("transpose_b"))
    if node.op == "Einsum":
        found = _dense_equation(node)
        return found is not None and found["ot"] is not None
    return node.op == "BatchMatMulV2" and bool(node.attr("adj_y"))


def _dense_equation(node: Node) -> re.Match[str] | None:
    found = DENSE_EQUATION.fullmatch(node.attr("equation").replace(" ", ""))
    if found is None or (found["o"] or found["ot"]) in found["rows"] + found["i"] or found["i"] in found["rows"]:
        return None
    return found


def require_foldable(graph: Graph, node: Node) -> None:
    """Decline unless the weights are a constant that a fold can rewrite, and the data stand as they are."""
    weights = node.inputs[LINEAR[node.op].weights]
    if not graph.is_const(weights):
        raise Decline(f'the weights of {node.op} "{node.name}" are no constant')
    if (node.op == "MatMul" and node.attr("transpose_a")) or (node.op == "BatchMatMulV2" and node.attr("adj_x")):
        raise Decline(f'{node.op} "{node.name}" transposes its data')
    if node.op == "Einsum" and _dense_equation(node) is None:
        raise Decline(f'the equation of Einsum "{node.name}" is no dense layer')
    if node.op == "BatchMatMulV2" and len(graph.const(weights).shape) != 2:
        raise Decline(f'the weights of {node.op} "{node.name}" come in batches')
