"""Patterns and the driver."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.errors import PassError
from pbcompile.graph import Decline, Graph, Match, Rule, apply_rules
from pbcompile.graph.pattern import Any, Const, Op, match_at, op
from tests.passes.trial import make


def test_commutative_patterns_bind_both_ways():
    """The constant may stand left or right; elsewhere order counts."""
    left, right = make(lambda x: 2.0 * x), make(lambda x: x * 2.0)
    pattern = op("Mul", Any("x"), Const("c"), commutative=True)
    for graph in (left, right):
        (match,) = match_at(pattern, graph, graph.node("out"))
        assert match.tensor("x") == "x"
        assert match.const("c") == 2
    assert not list(match_at(op("Mul", Any("x"), Const("c")), left, left.node("out")))


def test_one_name_is_one_tensor():
    """x · sigmoid(x), but not x · sigmoid(y)."""
    swish = op("Mul", Any("x"), op("Sigmoid", Any("x")), commutative=True)
    good, bad = make(lambda x: tf.sigmoid(x) * x), make(lambda x: tf.sigmoid(x) * tf.nn.relu(x))
    assert len(list(match_at(swish, good, good.node("out")))) == 1
    assert not list(match_at(swish, bad, bad.node("out")))


def test_a_second_port_is_no_match():
    """`split:1` is not the result of `split` that a pattern means."""
    graph = make(lambda x: tf.nn.relu(tf.split(x, 2, axis=3)[1]))
    assert not list(match_at(op("Relu", op("Split")), graph, graph.node("out")))


class NegToExp(Rule):
    name = "neg-to-exp"
    pattern = op("Neg", Any("x"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        return graph.add("Exp", [match.tensor("x")])


class ExpToNeg(Rule):
    name = "exp-to-neg"
    pattern = op("Exp", Any("x"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        return graph.add("Neg", [match.tensor("x")])


def test_rules_that_chase_each_other_are_named():
    """A bounded fixpoint, and the two that keep firing."""
    with pytest.raises(PassError, match=r'64 sweeps "(neg-to-exp|exp-to-neg)" and "(neg-to-exp|exp-to-neg)"'):
        apply_rules(make(lambda x: -x), [NegToExp(), ExpToNeg()])


class Refuse(Rule):
    name: ClassVar[str] = "refuse"
    pattern: ClassVar[Op] = op("AddV2", Any("x"), Any("y"), commutative=True)

    def rewrite(self, graph: Graph, match: Match) -> str:
        graph.add("Exp", [match.tensor("x")])
        raise Decline("because")


def test_a_decline_leaves_nothing_behind_and_is_reported_once():
    """Even where the pattern fits in two ways."""
    graph = make(lambda x: tf.nn.relu(x) + x)
    before = len(graph)
    outcome = apply_rules(graph, [Refuse()])
    assert len(graph) == before
    assert [(no.rule, no.node, no.reason) for no in outcome.declined] == [("refuse", "out", "because")]
    assert outcome.applied == 0


def test_matches_read_constants_in_float64():
    """`exact` is what the constant was before it was rounded."""
    graph = make(lambda x: x * 0.1)
    (match,) = match_at(op("Mul", Any("x"), Const("c")), graph, graph.node("out"))
    assert match.exact("c") == np.float64(np.float32(0.1))
    with pytest.raises(PassError, match='binds no "z"'):
        match.tensor("z")
