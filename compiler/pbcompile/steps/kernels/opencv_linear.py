"""INTER_LINEAR of `cv2.resize`: fixed-point on uint8, fused multiply-adds on float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from pbcompile.steps.kernels.opencv_positions import IPP_CHANNELS, inside, middles, split
from pbcompile.steps.kernels.opencv_positions import fixed_point as to_fixed_point
from pbcompile.steps.kernels.sizes import Extent, is_fixed, make_table

Positions = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""From (size, target) the int32 pixel before each place, and the float32 distance from it."""


def between_middles(size: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """INTER_LINEAR: pixels are squares that meet at their edges; places are rounded to float32."""
    return split(tf.cast(middles(size, target), tf.float32))


def fixed_point(
    x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], positions: Positions = between_middles
) -> tf.Tensor:
    """HResizeLinear<uchar, int, short> and VResizeLinear<uchar, int, short> on uint8 [N, H, W, C].

    Across: h = s0·a0 + s1·a1.  Down: (((h0 >> 4)·b0 >> 16) + ((h1 >> 4)·b1 >> 16) + 2) >> 2.
    Halving both sides goes through INTER_AREA's (a + b + c + d + 2) >> 2 in OpenCV, which is what this gives too.
    """

    def columns(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        left, distance = _edge_alone(*positions(size, target), size)
        return [left, inside(left + 1, size), to_fixed_point(1.0 - distance), to_fixed_point(distance)]

    def rows(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        upper, distance = positions(size, target)  # at the edges both weights stay, on the same row
        return [inside(upper, size), inside(upper + 1, size), to_fixed_point(1.0 - distance), to_fixed_point(distance)]

    upper, lower, weight_upper, weight_lower = make_table(rows, size[0], target[0])
    left, right, weight_left, weight_right = make_table(columns, size[1], target[1])

    # Both rows and both columns of every pixel, gathered at once: of all images the upper rows, then the lower ones,
    # each time the left pixels of a row and then its right ones, side by side in memory.
    channels = x.shape[3]
    count, row = tf.shape(x)[0] if x.shape[0] is None else x.shape[0], target[1] * channels
    lines = tf.stack([upper, lower])[:, tf.newaxis] + tf.range(count)[:, tf.newaxis] * size[0]  # [2, N, h]
    images = tf.reshape(x, tf.stack([count * size[0], size[1], channels]))
    picked = tf.gather(tf.gather(images, tf.reshape(lines, [-1])), tf.concat([left, right], 0), axis=1)
    pairs = tf.cast(tf.reshape(picked, tf.stack([2 * count * target[0], 1, 2, row])), tf.float32)
    # Across: a depthwise convolution whose "channels" are the columns.  h / 16 < 2¹⁵ with 4 bits behind the point is
    # exact in float32, and the cast cuts them off.
    weights = tf.cast(tf.stack([weight_left, weight_right]), tf.float32) / 16.0
    weights = tf.reshape(tf.tile(weights[:, :, tf.newaxis], [1, 1, channels]), tf.stack([1, 2, row, 1]))
    across = tf.raw_ops.DepthwiseConv2dNative(input=pairs, filter=weights, strides=[1, 1, 1, 1], padding="VALID")
    across = tf.cast(tf.reshape(across, tf.stack([2, count, target[0], row])), tf.int32)
    # Down: both products have 16 bits behind the point.  Without those of the one, the sum has those of the other,
    # which cannot carry; so one shift does for all three.
    above, below = tf.unstack(across * tf.stack([weight_upper, weight_lower])[:, tf.newaxis, :, tf.newaxis])
    total = tf.bitwise.bitwise_and(above, -1 << 16) + below
    level = tf.cast(tf.bitwise.right_shift(total + (2 << 16), 18), tf.uint8)
    result = tf.reshape(level, tf.stack([count, target[0], target[1], channels]))
    result.set_shape([x.shape[0], *(extent if isinstance(extent, int) else None for extent in target), channels])
    return result


def _edge_alone(left: tf.Tensor, distance: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Outside of the middles of the first and last pixel, that pixel alone counts."""
    distance = tf.where((left < 0) | (left >= size - 1), tf.zeros_like(distance), distance)
    return inside(left, size), distance


def on_floats(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """float32 as the x86 builds of OpenCV do it: by Intel IPP, which takes no image one pixel high or wide."""
    if x.shape[3] not in IPP_CHANNELS:
        return plain(x, size, target, between_middles)
    if is_fixed(*size):
        return plain(x, size, target, between_middles) if min(size) < 2 else _fused(x, size, target)
    return tf.cond(
        tf.minimum(size[0], size[1]) < 2,
        lambda: plain(x, size, target, between_middles),
        lambda: _fused(x, size, target),
    )


def _fused(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """Intel IPP's: positions in double, a + (b − a)·t with one rounding.

    The product and the sum are made in float64, where the product of two float32 is exact: a fused multiply-add.
    """

    def taps(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        first, distance = split(middles(size, target))
        return [inside(first, size), inside(first + 1, size), tf.cast(tf.cast(distance, tf.float32), tf.float64)]

    def mix(first: tf.Tensor, second: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
        step = tf.cast(second - first, tf.float64)
        return tf.cast(step * distance + tf.cast(first, tf.float64), tf.float32)

    upper, lower, down = make_table(taps, size[0], target[0])
    left, right, along = make_table(taps, size[1], target[1])

    def across(rows: tf.Tensor) -> tf.Tensor:
        picked = tf.gather(x, rows, axis=1)
        return mix(tf.gather(picked, left, axis=2), tf.gather(picked, right, axis=2), along[:, tf.newaxis])

    return mix(across(upper), across(lower), down[:, tf.newaxis, tf.newaxis])


def plain(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], positions: Positions) -> tf.Tensor:
    """float32 by OpenCV's own loops: a·(1 − t) + b·t, across and then down, each product and sum rounded."""

    def columns(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        left, distance = _edge_alone(*positions(size, target), size)
        return [left, inside(left + 1, size), 1.0 - distance, distance]

    def rows(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        upper, distance = positions(size, target)
        return [inside(upper, size), inside(upper + 1, size), 1.0 - distance, distance]

    upper, lower, weight_upper, weight_lower = make_table(rows, size[0], target[0])
    left, right, weight_left, weight_right = make_table(columns, size[1], target[1])

    def across(rows: tf.Tensor) -> tf.Tensor:
        picked = tf.gather(x, rows, axis=1)
        at_left, at_right = tf.gather(picked, left, axis=2), tf.gather(picked, right, axis=2)
        return at_left * weight_left[:, tf.newaxis] + at_right * weight_right[:, tf.newaxis]

    return (
        across(upper) * weight_upper[:, tf.newaxis, tf.newaxis]
        + across(lower) * weight_lower[:, tf.newaxis, tf.newaxis]
    )
