"""Compute once what is computed twice."""

from __future__ import annotations

from pbcompile.graph import Graph, Node, Outcome, registry
from pbcompile.graph.tensors import join_tensor

NEVER = frozenset({"Placeholder", "Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond"})


def merge_duplicates(graph: Graph) -> Outcome:
    """Let readers of the second of two equal nodes read the first.

    Before:  x ─► Relu ─► a          x ─► Relu ─► b
    After:   x ─► Relu ─► a, b

    Exact: equal op, attributes and inputs give equal outputs, since no op left has state.  Runs after the folding
    passes, which want a convolution that only one branch reads.  Declines when:
      1. both are graph outputs: both names must stay
      2. the op is control flow
    """
    outcome = Outcome()
    first: dict[tuple[object, ...], Node] = {}
    for node in graph.sorted():
        if node.op in NEVER:
            continue
        attrs = tuple((key, node.attrs[key].SerializeToString(deterministic=True)) for key in sorted(node.attrs))
        kept = first.setdefault((node.op, node.inputs, attrs), node)
        if kept is node or (graph.is_public(node) and (graph.is_public(kept) or kept.op == "Const")):
            continue
        graph.label(kept.name, node.stands_for, node.absorbed)
        for port in range(len(registry.output_dtypes(node.op, node.attrs))):
            if graph.has(node):
                graph.redirect(join_tensor(node.name, port), join_tensor(kept.name, port))
        outcome.applied += 1
    graph.prune()
    graph.commit()
    return outcome
