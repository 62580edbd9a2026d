"""What is left of a batch norm before a ReLU, as one convolution that TensorFlow fuses."""

from __future__ import annotations

from math import prod

import numpy as np

from pbcompile.graph import Decline, Graph, Match, Rule
from pbcompile.graph.pattern import Any, Const, op
from pbcompile.passes.commute import dims
from pbcompile.passes.rounding import require_not_rounded

LEAST_NUMBERS = 96 * 1024
"""From this many numbers of an image on the convolution is faster (see the table in `AffineToDepthwise`)."""


class AffineToDepthwise(Rule):
    """A scale and a shift per channel before a ReLU, which nothing linear can take up, are a depthwise convolution.

    Before:  x[?, H, W, C] ─► Mul(s) ─► AddV2(b) ─► Relu ─► y
    After:   x ─► DepthwiseConv2dNative(s, 1×1) ─► BiasAdd(b) ─► Relu ─► y

    The same product and sum, and one pass over memory instead of three: the session fuses all of it when it starts.
    Networks that normalize before they activate (DenseNet, ResNetV2) are full of it.  Time as a part of the three ops',
    two threads, smallest of some thousand calls: 112×112×64 0.49, 56×56×64 0.54, 56×56×256 0.49, 28×28×128 0.67,
    28×28×512 0.36, 14×14×1024 0.59, 7×7×2048 0.95.  On smaller maps the convolution has more to set up than to do:
    14×14×256 2.98, 7×7×1024 3.16.  (FusedBatchNormV3 and Relu, fused: 0.80 to 1.51, and up to 3.89 on small maps;
    Maximum with the next layer taking the scale: 0.59 to 0.93, but with Minimum for negative scales 0.91 to 1.47.)
    Declines when:
      1. the map is no [N, H, W, C] of known H, W and C
      2. it is smaller than where the convolution is faster
      3. s or b is not one number for each channel, or they are no float32
      4. the product or the sum has another reader, or is a graph output
      5. the result is rounded to integers, as in preprocessing (rounding.py): the sum may differ in its last bit
    """

    name = "affine-to-depthwise"
    pattern = op(
        "Relu|Relu6",
        op("AddV2", op("Mul", Any("x"), Const("s"), commutative=True, bind="product"), Const("b"), commutative=True,
           bind="sum"),
    )  # fmt: skip

    def rewrite(self, graph: Graph, match: Match) -> str:
        """Convolution, bias, activation."""
        x, product, total = match.tensor("x"), match.node("product"), match.node("sum")
        sizes = dims(graph, x)
        channels = sizes[-1]
        if len(sizes) != 4 or None in sizes[1:]:
            raise Decline(f"{list(sizes)} is no [N, H, W, C] of known H, W and C")
        numbers = prod(size or 0 for size in sizes[1:])
        if numbers < LEAST_NUMBERS:
            raise Decline(f"{numbers} numbers: the three ops are as fast")
        for name in ("s", "b"):
            value = match.const(name)
            if value.size != channels or value.shape[-1] != channels or value.dtype != np.float32:
                raise Decline(f"{value.dtype} {list(value.shape)} is not one float32 for each of {channels} channels")
        for node in (product, total):
            graph.require_sole_reader(node)
        require_not_rounded(graph, match.root)
        name = graph.asked_name(match.root)
        kernel = graph.add_const(match.const("s").reshape(1, 1, -1, 1), name=f"{name}/scale")
        bias = graph.add_const(match.const("b").reshape(-1), name=f"{name}/shift")
        attrs = {"strides": [1, 1, 1, 1], "padding": "VALID"}
        scaled = graph.add("DepthwiseConv2dNative", [x, kernel], attrs, name=f"{name}/scaled")
        shifted = graph.add("BiasAdd", [scaled, bias], name=f"{name}/shifted")
        graph.label(scaled, product.stands_for, product.absorbed)
        graph.label(shifted, total.stands_for, total.absorbed)
        return graph.copy_of(match.root, (shifted,))
