"""A topological order that depends only on the graph, not on the order in which its nodes were added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from pbcompile.errors import PassError, Problem
from pbcompile.graph.tensors import node_of


class Ordered(Protocol):
    """What the order needs to know of a node."""

    name: str
    op: str
    inputs: tuple[str, ...]


N = TypeVar("N", bound=Ordered)

BACK_EDGES = frozenset({"NextIteration", "RefNextIteration"})
"""Ops whose output closes a loop: the Merge that reads one comes before it."""


def sorted_nodes(nodes: Mapping[str, N], roots: Sequence[str], only_needed: bool = False) -> list[N]:
    """Nodes in the order a depth-first walk from `roots` finishes them; then, unless `only_needed`, the rest by name.

    Loops through NextIteration are legal.  PassError at any other cycle, and at an input that does not exist.
    """
    order: list[N] = []
    state: dict[str, bool] = {}  # False while on the path, True when finished
    later: list[str] = []
    waiting = list(reversed(roots))
    rest = [] if only_needed else sorted(nodes, reverse=True)
    while waiting or later or rest:
        root = waiting.pop() if waiting else (later.pop(0) if later else rest.pop())
        if root in state:
            continue
        path = [(root, iter(_reads(nodes, root, later)))]
        state[root] = False
        while path:
            name, inputs = path[-1]
            following = next((given for given in inputs if not state.get(given, False)), None)
            if following is None:
                state[name] = True
                order.append(nodes[name])
                path.pop()
            elif following in state:
                cycle = [step for step, _ in path]
                names = " → ".join((*cycle[cycle.index(following) :], following))
                raise PassError(Problem("graph-invalid", f"the graph has a cycle: {names}"))
            else:
                state[following] = False
                path.append((following, iter(_reads(nodes, following, later))))
    return order


def _reads(nodes: Mapping[str, N], name: str, later: list[str]) -> list[str]:
    """The nodes that `name` reads, without the edges that close a loop (those are put off to `later`)."""
    if name not in nodes:
        raise PassError(Problem("graph-invalid", f'the graph has no node "{name}"'))
    found = []
    for tensor in nodes[name].inputs:
        given = node_of(tensor)
        if given not in nodes:
            raise PassError(Problem("graph-invalid", f'"{name}" reads "{tensor}", which does not exist'))
        if nodes[name].op in ("Merge", "RefMerge") and nodes[given].op in BACK_EDGES:
            later.append(given)
        else:
            found.append(given)
    return found
