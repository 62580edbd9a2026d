"""Which nodes stand inside a loop or a branch: a constant put beside them would be read from outside its frame."""

from __future__ import annotations

from pbcompile.graph.tensors import is_control, node_of
from pbcompile.graph.view import Graph

BEGINS = frozenset({"Enter", "Switch"})


def framed(graph: Graph) -> frozenset[str]:
    """The names of all nodes behind an Enter and before its Exit, or behind a Switch and before its Merge."""
    if not any(node.op in BEGINS for node in graph):
        return frozenset()
    depth: dict[str, int] = {}
    for node in graph.sorted():
        inputs = [node_of(tensor) for tensor in node.inputs if not is_control(tensor)]
        around = max((depth.get(name, 0) for name in inputs), default=0)
        of_loop = any(graph.node(name).op in ("LoopCond", "NextIteration") for name in inputs)
        if node.op == "Enter" or (node.op == "Switch" and not of_loop):
            around += 1
        elif node.op == "Exit" or (node.op == "Merge" and not of_loop):
            around -= 1
        depth[node.name] = around
    return frozenset(name for name, level in depth.items() if level > 0)
