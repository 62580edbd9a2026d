"""Find every batch norm of a freshly frozen graph, so that each can be accounted for when the passes are done."""

from __future__ import annotations

from collections import Counter

from pbcompile.graph import Graph, Node

LABEL = "batch_norm:"
"""Prefix of the labels that `mark_batch_norms` puts on nodes."""

WIDE = "float64"
"""Label of constants that only a batch norm reads: they are computed in float64, and rounded once."""

FUSED = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})

SHIFTS = frozenset({"AddV2", "Add", "Sub"})

INNER_SCOPES = frozenset({"batchnorm", "batch_normalization", "moments"})
"""Scopes that TensorFlow and Keras open inside a batch norm layer: they are no layer names."""


def mark_batch_norms(graph: Graph) -> tuple[str, ...]:
    """Label the nodes of every batch norm with its layer; returns the layers, in topological order.

    Two forms are found (facts 1): a FusedBatchNorm with fixed statistics; and a multiplication by something that
    contains 1/√(constant), with the addition after it.  Must run before any constant is folded.  A layer that is
    called twice is found twice, as `layer` and `layer#2`.
    """
    layers: list[str] = []
    calls: Counter[str] = Counter()
    constant, rooted = _constants(graph)
    for node in graph.sorted():
        fused = node.op in FUSED and not node.attr("is_training")
        applies = node.op == "Mul" and node.name not in constant and any(t in rooted for t in node.inputs)
        if not fused and not applies:
            continue
        layer = layer_of(node.name)
        calls[layer] += 1
        if calls[layer] > 1:
            layer += f"#{calls[layer]}"
        layers.append(layer)
        graph.label(node.name, stands_for=[LABEL + layer])
        if applies:
            for reader, _ in graph.readers(node.name):
                if reader.op in SHIFTS and any(tensor in constant for tensor in reader.inputs):
                    graph.label(reader.name, stands_for=[LABEL + layer])
                    _mark_wide(graph, reader, constant)
            _mark_wide(graph, node, constant)
    return tuple(layers)


def _mark_wide(graph: Graph, node: Node, constant: set[str]) -> None:
    """Label every constant above `node`."""
    waiting = [tensor for tensor in node.data_inputs if tensor in constant]
    while waiting:
        above = graph.producer_of(waiting.pop())
        if WIDE not in above.stands_for:
            graph.label(above.name, stands_for=[WIDE])
            waiting += above.data_inputs


def layer_of(name: str) -> str:
    """The scope of the layer that a node belongs to: `net/bn1/batchnorm/mul_1` → `net/bn1`."""
    scopes = name.split("/")[:-1]
    while len(scopes) > 1 and scopes[-1].rstrip("_0123456789") in INNER_SCOPES:
        scopes.pop()
    return "/".join(scopes) or name


def _constants(graph: Graph) -> tuple[set[str], set[str]]:
    """Names of the nodes that depend on no input, and of those among them that contain an inverse square root."""
    constant: set[str] = set()
    rooted: set[str] = set()
    for node in graph.sorted():
        if node.op == "Const" or (node.data_inputs and node.op != "Placeholder" and _all_in(node, constant)):
            constant.add(node.name)
            if node.op == "Rsqrt" or any(tensor in rooted for tensor in node.data_inputs):
                rooted.add(node.name)
    return constant, rooted


def _all_in(node: Node, names: set[str]) -> bool:
    return all(tensor in names for tensor in node.data_inputs)
