"""The rewrite driver: rules to a bounded fixpoint, every refusal with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pbcompile.errors import PassError, Problem
from pbcompile.graph.frames import framed
from pbcompile.graph.pattern import Match, Op, match_at
from pbcompile.graph.view import Decline, Graph, Node

MAX_SWEEPS = 64
"""Sweeps over the graph before a set of rules counts as not converging; real networks need two to six."""


class Rule:
    """One rewrite.  The docstring draws it, says why it is valid, and numbers its declines."""

    name: ClassVar[str]
    pattern: ClassVar[Op]

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether the place is one that the rule is about, beyond what the pattern says; False is no decline."""
        return True

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The tensor that replaces port 0 of the match's root; only adds nodes.  Raises Decline(reason)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Declined:
    """A place where a rule fits but must not fire."""

    rule: str
    node: str
    reason: str


@dataclass
class Outcome:
    """What a pass did: how often it fired, and where it declined (as of its last look)."""

    applied: int = 0
    declined: list[Declined] = field(default_factory=list)


def apply_rules(graph: Graph, rules: Sequence[Rule], backwards: bool = False) -> Outcome:
    """Apply `rules` everywhere until nothing fires any more.

    Each sweep visits the nodes in topological order (or its reverse) and at each node tries the rules in their
    order.  A rewrite that makes a number too large for its dtype is declined.  Nothing is rewritten inside a loop or
    a branch, where a new constant would need an Enter or a Switch.
    PassError names the last two rules when that does not end.
    """
    outcome = Outcome()
    inside = framed(graph)
    by_op: dict[str, list[Rule]] = {}
    for rule in rules:
        for op in rule.pattern.names:
            by_op.setdefault(op, []).append(rule)
    fired: list[str] = []
    for _ in range(MAX_SWEEPS):
        before, outcome.declined = outcome.applied, []
        nodes = graph.sorted()
        for node in reversed(nodes) if backwards else nodes:
            for rule in by_op.get(node.op, ()):
                if graph.has(node) and _try(graph, rule, node, outcome, node.name in inside):
                    outcome.applied += 1
                    fired.append(rule.name)
        if outcome.applied == before:
            return outcome
    last = fired[-1]
    other = next((name for name in reversed(fired) if name != last), last)
    raise PassError(
        Problem("pass-diverges", f'after {MAX_SWEEPS} sweeps "{other}" and "{last}" still keep firing in turn')
    )


def _try(graph: Graph, rule: Rule, node: Node, outcome: Outcome, is_inside: bool) -> bool:
    """Try `rule` at one node; whether it fired."""
    declined: list[Declined] = []
    for match in match_at(rule.pattern, graph, node):
        if not rule.fits(graph, match):
            continue
        if is_inside:
            declined.append(Declined(rule.name, node.name, f'"{node.name}" stands in a loop or a branch'))
            break
        mark = graph.mark()
        try:
            with np.errstate(over="ignore"):  # it is found in the next line
                new = rule.rewrite(graph, match)
            graph.require_finite(mark)
        except Decline as decline:
            graph.undo(mark)
            declined.append(Declined(rule.name, decline.about or node.name, str(decline)))
            continue
        graph.commit()
        graph.redirect(match.root.name, new)
        return True
    outcome.declined += dict.fromkeys(declined)
    return False
