"""Fold per-channel scales and shifts backwards, into the linear op before them."""

from __future__ import annotations

from pbcompile.graph import Decline, Graph, Match, Rule
from pbcompile.graph.pattern import Any, Const, op
from pbcompile.passes.affine import Array, PerChannel, read_per_channel
from pbcompile.passes.carry import Load, bias_axis, carry_scale, carry_shift
from pbcompile.passes.rounding import require_not_rounded


def per_channel(graph: Graph, tensor: str, value: Array) -> PerChannel:
    """`value`, broadcast against `tensor`, as one number per channel; Decline where it is not."""
    shape = graph.shape(tensor)
    if shape is None:
        raise Decline(f'the rank of "{tensor}" is unknown')
    numbers = read_per_channel(value, shape)
    if numbers is None:
        raise Decline(f"a constant of shape {list(value.shape)} is not one number per channel of {list(shape)}")
    return numbers


class FoldScaleIntoConv(Rule):
    """Move a per-channel multiply into the weights of the linear op before it.

    Before:  x ─► Conv(W) ─► [what a scale passes] ─► Mul(s) ─► y
    After:   x ─► Conv(W·s) ─► [the same] ─► y

    Exact in real arithmetic: a convolution is linear in W, and what lies between commutes with a scale (carry.py).
    Declines when:
      1. anything on the way has another reader, or is a graph output: that one would be scaled too
      2. s is not one number per channel
      3. something on the way does not commute with a scale
      4. the weights are no constant
      5. the weights are shared and large: folding copies them
      6. the result is rounded to integers before anything linear reads it, as in preprocessing (rounding.py)
    """

    name = "fold-scale-into-conv"
    pattern = op("Mul", Any("x"), Const("s"), commutative=True)

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The chain without the multiply."""
        require_not_rounded(graph, match.root)
        numbers = per_channel(graph, match.tensor("x"), match.exact("s"))
        return carry_scale(graph, match.tensor("x"), Load(numbers, match.root.stands_for))


class FoldDivisionIntoConv(Rule):
    """Move a per-channel division into the weights of the linear op before it.

    Before:  x ─► Conv(W) ─► RealDiv(d) ─► y
    After:   x ─► Conv(W/d) ─► y

    Exact in real arithmetic, as fold-scale-into-conv with s = 1/d, and with its declines; and when:
      1. a divisor is zero
    """

    name = "fold-division-into-conv"
    pattern = op("RealDiv", Any("x"), Const("d"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The chain without the division."""
        require_not_rounded(graph, match.root)
        divisor = match.exact("d")
        if not divisor.all():
            raise Decline("a divisor is zero")
        numbers = per_channel(graph, match.tensor("x"), 1.0 / divisor)
        return carry_scale(graph, match.tensor("x"), Load(numbers, match.root.stands_for))


class FoldShiftIntoBias(Rule):
    """Move a per-channel addition into the bias of the linear op before it, or make it that bias.

    Before:  x ─► Conv(W) ─► [BiasAdd(b)] ─► AddV2(t) ─► y
    After:   x ─► Conv(W) ─► BiasAdd(b + t) ─► y

    Exact in real arithmetic: addition is associative.  A BiasAdd right behind its convolution is what TensorFlow's
    runtime fuses (facts 3).
    Declines when:
      1. anything on the way has another reader, or is a graph output
      2. t is not one number per channel
      3. something on the way does not commute with a shift
      4. the result is rounded to integers before anything linear reads it, as in preprocessing (rounding.py)
    """

    name = "fold-shift-into-bias"
    pattern = op("AddV2|Add", Any("x"), Const("t"), commutative=True)

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The chain without the addition."""
        require_not_rounded(graph, match.root)
        numbers = per_channel(graph, match.tensor("x"), match.exact("t"))
        return carry_shift(graph, match.tensor("x"), Load(numbers, match.root.stands_for))


class FoldSubtractionIntoBias(Rule):
    """Move a per-channel subtraction into the bias of the linear op before it.

    Before:  x ─► Conv(W) ─► [BiasAdd(b)] ─► Sub(t) ─► y
    After:   x ─► Conv(W) ─► BiasAdd(b − t) ─► y

    Exact in real arithmetic, and with the declines of fold-shift-into-bias.
    """

    name = "fold-subtraction-into-bias"
    pattern = op("Sub", Any("x"), Const("t"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The chain without the subtraction."""
        require_not_rounded(graph, match.root)
        numbers = per_channel(graph, match.tensor("x"), -match.exact("t"))
        return carry_shift(graph, match.tensor("x"), Load(numbers, match.root.stands_for))


class MergeBiases(Rule):
    """Merge a BiasAdd with the addition or bias before it.

    Before:  x ─► Conv(W) ─► BiasAdd(b) ─► BiasAdd(c) ─► y
    After:   x ─► Conv(W) ─► BiasAdd(b + c) ─► y

    Exact in real arithmetic, and with the declines of fold-shift-into-bias; and when:
      1. the BiasAdd stands right behind its linear op: it is where it belongs
    """

    name = "merge-biases"
    pattern = op("BiasAdd", op("BiasAdd|AddV2|Add|Sub", bind="x"), Const("c"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The chain with one bias less."""
        require_not_rounded(graph, match.root)
        numbers = PerChannel(match.exact("c"), bias_axis(graph, match.root))
        return carry_shift(graph, match.tensor("x"), Load(numbers, match.root.absorbed))
