"""Small 1×1 convolutions as matrix products, with what follows them on the product."""

from __future__ import annotations

from math import prod

import numpy as np

from pbcompile.graph import Decline, Graph, Match, Node, Rule
from pbcompile.graph.pattern import Any, Const, op
from pbcompile.passes.commute import dims
from pbcompile.passes.rounding import require_not_rounded

MAX_POSITIONS = 28 * 28
MAX_PRODUCTS = 12_000_000
"""Up to these the matrix product is faster (see the table in `PointwiseToMatmul`)."""


class PointwiseToMatmul(Rule):
    """A 1×1 convolution on a small map is a matrix product with less to set up.

    Before:  x[?, H, W, C] ─► Conv2D(1×1) ─► y
    After:   x ─► Reshape [-1, C] ─► MatMul ─► Reshape [-1, H, W, K] ─► y

    The same sums; Reshape costs nothing.  Time of the product with bias and Relu6 as a part of the convolution's,
    two threads, quiet windows of 200 rounds: 28×28 144→32 0.72, 32→192 0.75; 14×14 192→64 0.69, 64→384 0.79,
    384→96 0.77, 96→576 0.94; 7×7 576→160 0.72, 160→960 0.87; 1×1 960→240 0.69.  No gain where there is more to
    multiply: 7×7 960→320 0.99, 28×28 512→128 1.02, 7×7 2048→512 1.08; nor on larger maps: 56×56 24→144 1.03.
    Declines when:
      1. the kernel is not 1×1, or has strides, or reads its channels in groups
      2. height or width is open
      3. the map or the product is larger than where it is faster
      4. the layout is NCHW
      5. the kernel is shared: both forms of it would be stored
      6. the result is rounded to integers, as in preprocessing (rounding.py): the sums may differ in their last bit
    """

    name = "pointwise-to-matmul"
    pattern = op("Conv2D", Any("x"), Const("w"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """Reshape, MatMul, Reshape."""
        node, weights = match.root, match.node("w")
        kernel, given, made = match.const("w"), dims(graph, match.tensor("x")), dims(graph, node.name)
        if kernel.shape[:2] != (1, 1) or any(step != 1 for step in node.attr("strides")):
            raise Decline("the kernel is not 1×1, or has strides")
        if node.attr("data_format") != "NHWC":
            raise Decline("the layout is NCHW")
        if given[3] != kernel.shape[2]:
            raise Decline("it reads its channels in groups")
        if None in made[1:]:
            raise Decline(f"{list(made)} is open")
        positions = prod(size or 0 for size in made[1:3])
        products = positions * kernel.size
        if positions > MAX_POSITIONS or products > MAX_PRODUCTS:
            raise Decline(f"{positions} positions, {products} products: the convolution is as fast")
        graph.require_sole_reader(weights)
        require_not_rounded(graph, node)
        name = graph.asked_name(node)
        matrix = graph.add_const(graph.exact(weights.name)[0, 0], graph.dtype(weights.name), f"{name}/matrix")
        flat = reshape(graph, match.tensor("x"), (-1, kernel.shape[2]), f"{name}/flat")
        product = graph.add("MatMul", [flat, matrix], name=f"{name}/MatMul")
        graph.label(product, node.stands_for, node.absorbed)
        return reshape(graph, product, (-1, *(size or 0 for size in made[1:])), f"{name}/map")


ELEMENTWISE = "BiasAdd|Relu|Relu6|LeakyRelu|Elu|Selu|Sigmoid|Tanh|Softplus"


class SinkReshape(Rule):
    """Work on the product before it is reshaped, so that bias and activation stand right behind it and are fused.

    Before:  MatMul ─► Reshape ─► BiasAdd ─► Relu ─► y
    After:   MatMul ─► BiasAdd ─► Relu ─► Reshape ─► y

    Exact: the ops treat every number apart, or every last axis.
    Declines when:
      1. the reshape has another reader, or is a graph output
      2. it does not split the first of two axes (the channels stay last)
    """

    name = "sink-reshape"
    pattern = op(ELEMENTWISE, op("Reshape", Any("a"), Const("shape"), bind="reshaped"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The op on the product, then the reshape."""
        reshaped = match.node("reshaped")
        graph.require_sole_reader(reshaped)
        require_splits_rows(graph, reshaped)
        made = graph.copy_of(match.root, (match.tensor("a"), *match.root.inputs[1:]))
        return graph.copy_of(reshaped, (made, match.tensor("shape")))


class SinkReshapeBelowSwish(Rule):
    """The same for x · sigmoid(x), which reads the reshape twice.

    Before:  a ─► Reshape ─┬──────────► Mul ─► y
                           └► Sigmoid ─┘
    After:   a ─┬──────────► Mul ─► Reshape ─► y
                └► Sigmoid ─┘

    Exact.  Declines when:
      1. anything else reads the reshape or the sigmoid
      2. it does not split the first of two axes
    """

    name = "sink-reshape-below-swish"
    pattern = op("Mul", Any("map"), op("Sigmoid", Any("map"), bind="sigmoid"), commutative=True)

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether a reshape stands before it."""
        node = match.node("map")
        return node.op == "Reshape" and graph.is_const(node.inputs[1])

    def rewrite(self, graph: Graph, match: Match) -> str:
        """Swish on the product, then the reshape."""
        reshaped = match.node("map")
        graph.require_sole_reader(match.node("sigmoid"))
        if graph.reader_count(reshaped) != 2 or graph.is_public(reshaped):
            raise Decline(f'"{reshaped.name}" is needed elsewhere too')
        require_splits_rows(graph, reshaped)
        flat = reshaped.inputs[0]
        sigmoid = graph.copy_of(match.node("sigmoid"), [flat])
        return graph.copy_of(reshaped, (graph.copy_of(match.root, (flat, sigmoid)), reshaped.inputs[1]))


class SinkReshapeBelowAdd(Rule):
    """Add a residual to the product before it is reshaped.

    Before:  a ─► Reshape ─► AddV2(y) ─► z
    After:   a ─► AddV2(Reshape(y)) ─► Reshape ─► z

    Exact.  Against the addition on the map: 14×14 384→96 0.90 instead of 0.94 of the convolution's time, 7×7 960→160
    0.91 instead of 0.95, 7×7 512→2048 0.96 instead of 1.11.
    Declines when:
      1. the reshape has another reader, or is a graph output
      2. it does not split the first of two axes
      3. the other side has another shape, or is a constant
    """

    name = "sink-reshape-below-add"
    pattern = op("AddV2", op("Reshape", Any("a"), Const("shape"), bind="reshaped"), Any("y"), commutative=True)

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The addition on the product, then the reshape."""
        reshaped, other = match.node("reshaped"), match.tensor("y")
        graph.require_sole_reader(reshaped)
        require_splits_rows(graph, reshaped)
        made = dims(graph, match.root.name)
        if graph.is_const(other) or graph.shape(other) != made or graph.shape(reshaped.name) != made:
            raise Decline(f'"{other}" is added to every position alike')
        flat = reshape(graph, other, (-1, made[-1] or 0), f"{graph.asked_name(match.root)}/flat")
        added = graph.copy_of(match.root, (match.tensor("a"), flat))
        return graph.copy_of(reshaped, (added, match.tensor("shape")))


class CancelReshapes(Rule):
    """A reshape back to what was reshaped before goes, and so does one that changes nothing.

    Before:  a[?, C] ─► Reshape [?, 1, 1, C] ─► Reshape [?, C] ─► y
    After:   a ─► y

    Exact.  Declines when:
      1. the shapes differ, or more than one size is open
      2. it is a graph output
    """

    name = "cancel-reshapes"
    pattern = op("Reshape", Any("x"), Const("shape"))

    def fits(self, graph: Graph, match: Match) -> bool:
        """Whether two reshapes follow each other, or one does nothing."""
        return match.node("x").op == "Reshape" or graph.shape(match.tensor("x")) == graph.shape(match.root.name)

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The tensor before both."""
        made = dims(graph, match.root.name)
        if sum(size is None for size in made) > 1 or 0 in made:
            raise Decline(f"more than one size of {list(made)} is open")
        if graph.is_public(match.root):
            raise Decline(f'"{match.root.name}" is a graph output')
        before = match.node("x").inputs[0] if match.node("x").op == "Reshape" else ""
        for source in (match.tensor("x"), before):
            if source and graph.shape(source) == made:
                return source
        raise Decline(f"{list(made)} is another shape than before")


class DropReducedSizes(Rule):
    """A reduction that keeps sizes of 1, reshaped to a matrix, need not keep them.

    Before:  x ─► Mean([1, 2], keep_dims) ─► [?, 1, 1, C] ─► Reshape [?, C] ─► y
    After:   x ─► Mean([1, 2]) ─► y

    Exact.  Declines when:
      1. the reshape gives another shape than the reduction would
      2. the reduction has another reader, or is a graph output
    """

    name = "drop-reduced-sizes"
    pattern = op("Reshape", op("Mean|Max|Sum|Min", Any("x"), Const("axes"), bind="reduced"), Const("shape"))

    def rewrite(self, graph: Graph, match: Match) -> str:
        """The reduction without keep_dims."""
        reduced, given = match.node("reduced"), dims(graph, match.tensor("x"))
        if not reduced.attr("keep_dims"):
            raise Decline(f'"{reduced.name}" keeps no sizes')
        graph.require_sole_reader(reduced)
        gone = {int(axis) % len(given) for axis in match.const("axes").reshape(-1)}
        left = tuple(size for axis, size in enumerate(given) if axis not in gone)
        if dims(graph, match.root.name) != left:
            raise Decline(f"the reshape gives another shape than {list(left)}")
        return graph.copy_of(reduced, reduced.inputs, keep_dims=False)


def reshape(graph: Graph, tensor: str, shape: tuple[int, ...], name: str) -> str:
    """Add a reshape to a constant shape."""
    return graph.add("Reshape", [tensor, graph.add_const(np.array(shape, np.int32), name=f"{name}/shape")], name=name)


def require_splits_rows(graph: Graph, reshaped: Node) -> None:
    """Decline unless the reshape is from [rows, channels] to [..., channels]."""
    given, made = dims(graph, reshaped.inputs[0]), dims(graph, reshaped.name)
    if len(given) != 2 or given[1] is None or given[1] != made[-1]:
        raise Decline(f'"{reshaped.name}" does not keep the channels last')
