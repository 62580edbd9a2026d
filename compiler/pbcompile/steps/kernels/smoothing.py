"""Blurs as depthwise convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pbcompile.steps.kernels.layout import pad_mirrored
from pbcompile.steps.kernels.sizes import Extent


def blur(x: tf.Tensor, size: Sequence[Extent], down: Sequence[int], across: Sequence[int]) -> tf.Tensor:
    """uint8 [N, H, W, C] weighted by integer kernels of sum 256 along height and width; (sum + 2¹⁵) >> 16.

    255 · 256 · 256 < 2²⁴: float32 holds every sum exactly, in whatever order a convolution adds.
    """
    borders = [(len(kernel) // 2, len(kernel) // 2) for kernel in (down, across)]
    total = tf.cast(pad_mirrored(x, size, borders, "reflect"), tf.float32)
    for kernel, shape in ((down, (-1, 1, 1, 1)), (across, (1, -1, 1, 1))):
        if len(kernel) > 1:
            weights = np.repeat(np.asarray(kernel, np.float32).reshape(shape), x.shape[3], axis=2)
            total = tf.nn.depthwise_conv2d(total, weights, [1, 1, 1, 1], "VALID")
        else:
            total *= float(kernel[0])
    return tf.cast(tf.floor(total * (1.0 / 65536.0) + 0.5), tf.uint8)
