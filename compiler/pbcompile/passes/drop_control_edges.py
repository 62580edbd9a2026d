"""Drop control edges: nothing in a frozen graph has side effects to order."""

from __future__ import annotations

from pbcompile.graph import Graph, Outcome

FRAME_OPS = frozenset({"Enter", "Switch", "Merge"})


def drop_control_edges(graph: Graph) -> Outcome:
    """Remove control edges, and the NoOps that they leave without a reader.

    Before:  a ─ control ─► b ─► y
    After:   b ─► y

    Valid because every op left after freezing is free of side effects (lint refuses the others), so order does not
    matter.  In a graph with loops or branches a control edge can also be what places a node that reads nothing (a
    constant) inside its loop or branch, so there only nodes with data inputs lose theirs.
    """
    outcome = Outcome()
    framed = any(node.op in FRAME_OPS for node in graph)
    for node in graph:
        if len(node.data_inputs) < len(node.inputs) and not (framed and not node.data_inputs):
            graph.drop_control_inputs(node)
            outcome.applied += 1
    graph.prune()
    return outcome
