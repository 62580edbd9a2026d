"""Remove ops that pass their input through."""

from __future__ import annotations

from pbcompile.graph import Decline, Graph, Match, Rule
from pbcompile.graph.pattern import Any, op
from pbcompile.graph.tensors import split_tensor


class RemoveIdentities(Rule):
    """Let readers of an identity read its input.

    Before:  x ─► Identity ─► y
    After:   x ─► y

    Exact: the value is the same.  `StopGradient` and `PreventGradient` matter to training only; `Snapshot` copies.
    Declines when:
      1. the identity carries a public name and its input has one of its own, or is not port 0, or is a constant:
         one of the names would be lost
      2. the input comes from control flow, where an identity anchors constants in a loop or branch
    """

    name = "remove-identities"
    pattern = op("Identity|StopGradient|PreventGradient|Snapshot", Any("x"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The input of the identity."""
        maker = match.node("x")
        if graph.is_public(match.root) and (
            graph.is_public(maker) or maker.op == "Const" or split_tensor(match.tensor("x"))[1]
        ):
            raise Decline(f'"{match.root.name}" is a public name of "{maker.name}"')
        if maker.op in ("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"):
            raise Decline(f'"{match.root.name}" reads control flow')
        return match.tensor("x")
