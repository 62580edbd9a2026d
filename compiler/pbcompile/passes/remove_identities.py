"""Remove ops that pass their input through."""

from __future__ import annotations

from pbcompile.graph import Decline, Graph, Match, Node, Outcome, Rule, apply_rules
from pbcompile.graph.pattern import Any, Const, op
from pbcompile.graph.tensors import join_tensor, split_tensor

CONTROL_FLOW = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"})


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
        if maker.op in CONTROL_FLOW:
            raise Decline(f'"{match.root.name}" reads control flow')
        return match.tensor("x")


def remove_identities(graph: Graph) -> Outcome:
    """Split every IdentityN into Identities, then remove those that `RemoveIdentities` may.

    Before:  (a, b) ─► IdentityN ─►:0 y ─►:1 z
    After:   a ─► y,  b ─► z

    Exact.  Keras leaves an IdentityN behind every function with a gradient of its own, swish above all.
    """
    split = 0
    for node in graph.sorted():
        if node.op == "IdentityN":
            split += 1
            _split(graph, node)
    graph.commit()
    outcome = apply_rules(graph, [RemoveIdentities()])
    outcome.applied += split
    return outcome


def _split(graph: Graph, node: Node) -> None:
    for port in reversed(range(len(node.data_inputs))):
        tensor = join_tensor(node.name, port)
        if graph.has(node) and (graph.readers(tensor) or (not port and graph.is_public(node))):
            graph.redirect(tensor, graph.add("Identity", [node.data_inputs[port]], name=node.name))


class RemoveNeutralConstants(Rule):
    """Remove multiplications by one, divisions by one, and additions of zero.

    Before:  x ─► Mul(1) ─► y
    After:   x ─► y

    Exact (−0 + 0 is 0, which compares equal).  Keras 3 writes swish as x · sigmoid(1 · x): 49 times in EfficientNetB0.
    Declines when:
      1. the constant makes the tensor larger (a broadcast)
      2. it carries a public name and its input has one of its own, or is not port 0
    """

    name = "remove-neutral-constants"
    pattern = op("Mul|AddV2|Add", Any("x"), Const("c"), commutative=True)

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether the constant is neutral."""
        neutral = 1 if match.root.op in ("Mul", "RealDiv") else 0
        return bool((match.const("c") == neutral).all())

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The other operand."""
        maker = match.node("x")
        if graph.shape(match.tensor("x")) is None or graph.shape(match.tensor("x")) != graph.shape(match.root.name):
            raise Decline(f'"{match.root.name}" may broadcast "{maker.name}"')
        if graph.is_public(match.root) and (graph.is_public(maker) or split_tensor(match.tensor("x"))[1]):
            raise Decline(f'"{match.root.name}" is a public name of "{maker.name}"')
        return match.tensor("x")


class RemoveNeutralOperands(RemoveNeutralConstants):
    """The same for what does not commute: x / 1 and x − 0.

    Before:  x ─► Sub(0) ─► y
    After:   x ─► y

    With the declines of remove-neutral-constants.
    """

    name = "remove-neutral-operands"
    pattern = op("RealDiv|Sub", Any("x"), Const("c"))
