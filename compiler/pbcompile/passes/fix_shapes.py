"""What is known about shapes at compile time is written into the graph, and computed no more."""

from __future__ import annotations

from typing import Any as AnyType

import numpy as np

from pbcompile.graph import Decline, Graph, Match, Outcome, Rule, apply_rules
from pbcompile.graph.pattern import Any, Const, op
from pbcompile.passes.commute import dims
from pbcompile.passes.fold_constants import fold_constants

MAX_RANK = 16
"""No tensor has more axes; a longer list of indices gathers something else."""


class FixShapes(Rule):
    """A Shape whose every size is known is a constant.

    Before:  x[2, 8, 8, 3] ─► Shape ─► y
    After:   Const([2, 8, 8, 3]) ─► y

    Exact.  Declines when:
      1. a size is open: see fix-sizes and fix-reshapes for what can be done then
      2. it is a graph output: the name would be left on a constant
    """

    name = "fix-shapes"
    pattern = op("Shape", Any("x"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The constant."""
        sizes = dims(graph, match.tensor("x"))
        if None in sizes:
            raise Decline(f"{list(sizes)} has open sizes")
        if graph.is_public(match.root):
            raise Decline(f'"{match.root.name}" is a graph output')
        return graph.add_const(np.array(sizes, graph.dtype(match.root.name)), name=match.root.name)


class FixSizes(Rule):
    """A size taken out of a shape is a constant where it is known, whatever else is open.

    Before:  x[?, 8, 8, 3] ─► Shape ─► StridedSlice[1] ─► y
    After:   Const(8) ─► y

    Exact.  Declines when:
      1. the size that is taken is open
      2. which one is taken is known only when fed
      3. it is a graph output
    """

    name = "fix-sizes"
    pattern = op("StridedSlice", op("Shape", Any("x")), Const("begin"), Const("end"), Const("stride"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The constant."""
        node = match.root
        begin, end, stride = (match.const(name) for name in ("begin", "end", "stride"))
        if begin.size != 1 or node.attr("new_axis_mask") or node.attr("ellipsis_mask"):
            raise Decline(f'StridedSlice "{node.name}" does more than take sizes')
        if graph.is_public(node):
            raise Decline(f'"{node.name}" is a graph output')
        sizes = dims(graph, match.tensor("x"))
        first = None if node.attr("begin_mask") else int(begin[0])
        last = None if node.attr("end_mask") else int(end[0])
        if node.attr("shrink_axis_mask"):
            taken = sizes[int(begin[0])]
            if taken is None:
                raise Decline(f"size {int(begin[0])} of {list(sizes)} is open")
            return graph.add_const(np.array(taken, graph.dtype(node.name)), name=node.name)
        cut = sizes[first : last : int(stride[0])]
        if None in cut:
            raise Decline(f"a size among {list(cut)} is open")
        return graph.add_const(np.array(cut, graph.dtype(node.name)), name=node.name)


class FixGatheredSizes(Rule):
    """Sizes gathered from a shape are written one by one, so that the known ones are known.

    Before:  x[?, 8, 8, 3] ─► Shape ─► GatherV2([0, 1, 3]) ─► y
    After:   Pack(x ─► Shape ─► StridedSlice[0], 8, 3) ─► y

    Exact.  A dense layer on maps is full of it; shape inference reads Pack, but not GatherV2.  Declines when:
      1. which ones are taken is known only when fed, or more than sixteen
      2. it is a graph output
    """

    name = "fix-gathered-sizes"
    pattern = op("GatherV2", op("Shape", Any("x"), bind="shape"), Const("indices"), Const("axis"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The sizes as a Pack of constants and slices."""
        node, indices = match.root, match.const("indices")
        if indices.ndim != 1 or not 0 < indices.size <= MAX_RANK or graph.is_public(node):
            raise Decline(f'"{node.name}" is a graph output, or takes no list of sizes')
        sizes, dtype = dims(graph, match.tensor("x")), graph.dtype(node.name)
        parts = []
        for index in indices.tolist():
            size = sizes[index]
            if size is not None:
                parts.append(graph.add_const(np.array(size, dtype), name=f"{node.name}/size"))
                continue
            ends = [graph.add_const(np.array([i], np.int32), name=f"{node.name}/at") for i in (index, index + 1, 1)]
            shape = match.node("shape").name
            parts.append(graph.add("StridedSlice", [shape, *ends], {"shrink_axis_mask": 1}, f"{node.name}/size"))
        return graph.add("Pack", parts, {"axis": 0}, node.name)


class CancelTransposes(Rule):
    """A transpose that moves nothing goes; two in a row become one.

    Before:  x ─► Transpose(p) ─► Transpose(q) ─► y
    After:   x ─► Transpose(p[q]) ─► y,  or x ─► y where p[q] moves nothing

    Exact.  Declines when:
      1. it carries a public name and its input has one of its own, or is not port 0
      2. the first of two has another reader: both would be computed
    """

    name = "cancel-transposes"
    pattern = op("Transpose", Any("x"), Const("perm"))

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether it moves nothing, or another transpose stands before it."""
        return _moves_nothing(match.const("perm")) or match.node("x").op == "Transpose"

    def rewrite(self, graph: Graph, match: Match) -> str:
        """What is left of the transposes."""
        maker, perm = match.node("x"), match.const("perm")
        if _moves_nothing(perm):
            if graph.is_public(match.root) and (graph.is_public(maker) or match.tensor("x") != maker.name):
                raise Decline(f'"{match.root.name}" is a public name of "{maker.name}"')
            return match.tensor("x")
        if not graph.is_const(maker.inputs[1]):
            raise Decline(f'"{maker.name}" is told what to do while it runs')
        graph.require_sole_reader(maker)
        both = graph.const(maker.inputs[1])[perm]
        return graph.copy_of(match.root, (maker.inputs[0], graph.add_const(both, name=match.node("perm").name)))


class FixReshapes(Rule):
    """A reshape to sizes that are known but for one needs no arithmetic on shapes.

    Before:  x ─► Shape ─► StridedSlice ─► Pack(·, 1, 1, 16) ─► Reshape(x, ·) ─► y[?, 1, 1, 16]
    After:   x ─► Reshape(x, [-1, 1, 1, 16]) ─► y

    Exact: the number of elements decides the open size.  Declines when:
      1. more than one size of the result is open, or its rank
      2. a known size is zero: then the elements decide nothing
    """

    name = "fix-reshapes"
    pattern = op("Reshape", Any("x"), Any("shape"))

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether the new shape is computed."""
        return not graph.is_const(match.tensor("shape"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The reshape with a constant shape."""
        sizes = dims(graph, match.root.name)
        if sum(size is None for size in sizes) > 1:
            raise Decline(f"more than one size of {list(sizes)} is open")
        if 0 in sizes:
            raise Decline(f"{list(sizes)} is empty")
        fixed = np.array([-1 if size is None else size for size in sizes], np.int32)
        shape = graph.add_const(fixed, name=f"{match.root.name}/shape")
        return graph.add("Reshape", [match.tensor("x"), shape], name=match.root.name)


class KeepReducedSizes(Rule):
    """A reduction that drops sizes, and a reshape that puts them back, are one reduction.

    Before:  x ─► Mean([1, 2]) ─► [?, 16] ─► Reshape ─► y[?, 1, 1, 16]
    After:   x ─► Mean([1, 2], keep_dims) ─► y

    Exact.  Squeeze-and-excite is full of it: a block at 14×14×480 takes 0.91 of its time, at 7×7×1152 0.96.
    Declines when:
      1. the reshape gives another shape than keep_dims would
      2. the reduction has another reader, or is a graph output
      3. the axes are known only when fed
    """

    name = "keep-reduced-sizes"
    pattern = op("Reshape", op("Mean|Max|Sum|Min", Any("x"), Const("axes"), bind="reduced"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The reduction with keep_dims."""
        reduced, given = match.node("reduced"), dims(graph, match.tensor("x"))
        if reduced.attr("keep_dims"):
            raise Decline(f'"{reduced.name}" keeps its sizes already')
        graph.require_sole_reader(reduced)
        gone = {int(axis) % len(given) for axis in match.const("axes").reshape(-1)}
        kept = tuple(1 if axis in gone else size for axis, size in enumerate(given))
        made = dims(graph, match.root.name)
        if made != kept or sum(size is None for size in kept) > 1:
            raise Decline(f"the reshape gives {list(made)}, the reduction would keep {list(kept)}")
        return graph.copy_of(reduced, reduced.inputs, keep_dims=True)


def fix_shapes(graph: Graph) -> Outcome:
    """Apply the rules of this file until nothing fires.

    After every round the arithmetic on sizes that became known is folded and shapes are inferred anew: each constant
    may make further sizes known.
    """
    rules = (
        FixShapes(), FixSizes(), FixGatheredSizes(), CancelTransposes(), FixReshapes(), KeepReducedSizes()
    )  # fmt: skip
    applied = 0
    while True:
        outcome = apply_rules(graph, rules)
        applied += outcome.applied
        if not outcome.applied:
            return Outcome(applied, outcome.declined)
        fold_constants(graph)
        graph.forget_shapes()


def _moves_nothing(perm: np.ndarray[AnyType, AnyType]) -> bool:
    return bool((perm == np.arange(perm.size)).all())
