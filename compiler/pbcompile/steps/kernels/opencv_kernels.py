"""INTER_CUBIC and INTER_LANCZOS4 of `cv2.resize`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels.opencv_positions import (
    COEFFICIENT_SCALE,
    IPP_CHANNELS,
    fixed_point,
    inside,
    middles,
    split,
)
from pbcompile.steps.kernels.sizes import Extent, divide, make_table, settled

CUBIC_A = -0.75
LANES = 4
"""How many float32 OpenCV's vector code takes at a time, on every x86: that of resize.cpp is SSE's."""

IPP_CUBIC_SIDE = 4
"""Intel IPP, which the x86 builds of OpenCV use for INTER_CUBIC, takes no image with a side of fewer pixels."""

ROTATIONS = [(1, 0), (-1, -1), (0, 1), (1, -1), (-1, 0), (1, 1), (0, -1), (-1, 1)]
"""sin(a − kπ/4) as (sin a, cos a) times these, odd rows over √2: the table `cs` of interpolateLanczos4."""


def resize(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str) -> tf.Tensor:
    """uint8 or float32 [N, H, W, C]; taps outside of the image are on its edge."""
    return _lanczos(x, size, target) if method == "lanczos" else _cubic(x, size, target)


def _taps_around(before: tf.Tensor, count: int, size: tf.Tensor) -> tf.Tensor:
    """int32 [count, n] of indices around `before`, moved inside of the image."""
    return tf.stack([inside(before + k - (count // 2 - 1), size) for k in range(count)])


def _lines(rows: tf.Tensor, size: tf.Tensor) -> list[tf.Tensor]:
    """Which lines of the source to work on, and where among them each of `rows` [K, n] is.

    All lines of a small image, as neighbours share them; of a large one only those that are wanted.
    """
    is_sparse = tf.size(rows) < size
    wanted = tf.reshape(rows, [-1])
    every = tf.concat([tf.range(size), wanted], 0)
    chosen = tf.slice(every, [tf.where(is_sparse, size, 0)], [tf.minimum(size, tf.size(rows))])
    return [chosen, tf.where(is_sparse, tf.range(tf.size(rows)), wanted)]


def _across(x: tf.Tensor, lines: tf.Tensor, columns: tf.Tensor, weights: tf.Tensor, target: Extent) -> tf.Tensor:
    """float32 [N, lines, target · C]: `lines` of [N, H, W, C], each K `columns` weighted and summed.

    uint8: a depthwise convolution whose "channels" are the columns of the result; its sums are exact in any order.
    float32: one product and one sum after the other, as OpenCV's loops have them.
    """
    taps, channels = columns.shape[0], x.shape[3]
    if x.dtype == tf.float32:
        rows = tf.gather(x, lines, axis=1)
        total = tf.gather(rows, columns[0], axis=2) * weights[0][:, tf.newaxis]
        for k in range(1, taps):
            total = total + tf.gather(rows, columns[k], axis=2) * weights[k][:, tf.newaxis]
        return tf.reshape(total, tf.stack([tf.shape(x)[0], tf.size(lines), target * channels]))
    picked = tf.gather(tf.gather(x, lines, axis=1), tf.reshape(columns, [-1]), axis=2)
    count, row = tf.shape(x)[0], target * channels
    stacked = tf.cast(tf.reshape(picked, tf.stack([count * tf.size(lines), 1, taps, row])), tf.float32)
    kernel = tf.reshape(tf.tile(weights[:, :, tf.newaxis], [1, 1, channels]), tf.stack([1, taps, row, 1]))
    total = tf.raw_ops.DepthwiseConv2dNative(input=stacked, filter=kernel, strides=[1, 1, 1, 1], padding="VALID")
    return tf.reshape(total, tf.stack([count, tf.size(lines), row]))


def _down(picked: tf.Tensor, weights: tf.Tensor, is_integer: bool) -> tf.Tensor:
    """float32 [N, target, M]: `picked` [N, K, target, M] weighted by [K, target] and summed.

    VResizeCubicVec_32f and VResizeLanczos4Vec_32f start with the last row and take four values at a time; the loop for
    what is left of a line starts with the first row.
    """

    def summed(part: tf.Tensor, order: Sequence[int]) -> tf.Tensor:
        first, *others = order
        total = part[:, first] * weights[first][:, tf.newaxis]
        for k in others:
            total = part[:, k] * weights[k][:, tf.newaxis] + total
        return total

    taps = picked.shape[1]
    if is_integer:
        return summed(picked, range(taps - 1, -1, -1))
    width = tf.shape(picked)[3] // LANES * LANES
    return tf.concat(
        [summed(picked[..., :width], range(taps - 1, -1, -1)), summed(picked[..., width:], range(taps))], axis=2
    )


def _image(lines: tf.Tensor, x: tf.Tensor, target: Sequence[Extent]) -> tf.Tensor:
    """[N, rows, columns · C] as [N, rows, columns, C]."""
    image = tf.reshape(lines, tf.stack([tf.shape(x)[0], *target, x.shape[3]]))
    image.set_shape([x.shape[0], *(extent if isinstance(extent, int) else None for extent in target), x.shape[3]])
    return image


def _cubic_weights(t: tf.Tensor) -> list[tf.Tensor]:
    """interpolateCubic in the dtype of `t`."""
    a = CUBIC_A
    first = settled(((a * (t + 1.0) - 5.0 * a) * (t + 1.0) + 8.0 * a) * (t + 1.0) - 4.0 * a)
    second = settled(((a + 2.0) * t - (a + 3.0)) * t * t + 1.0)
    third = settled(((a + 2.0) * (1.0 - t) - (a + 3.0)) * (1.0 - t) * (1.0 - t) + 1.0)
    return [first, second, third, 1.0 - first - second - third]


def _cubic(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """Across and then down in float32.

    Images of at least 4×4 go through Intel IPP in OpenCV's x86 builds: weights from positions in double.  Smaller
    ones go through its own loops: positions in float, and for uint8 11-bit weights.
    """
    is_integer = x.dtype == tf.uint8

    def table(is_down: bool, size: tf.Tensor, target: tf.Tensor, other_size: tf.Tensor) -> list[tf.Tensor]:
        at = middles(size, target)
        is_own = x.shape[3] not in IPP_CHANNELS
        is_thin = tf.fill(tf.shape(at), (tf.minimum(size, other_size) < IPP_CUBIC_SIDE) | is_own)
        before, distance = split(tf.where(is_thin, tf.cast(tf.cast(at, tf.float32), tf.float64), at))
        weights = [tf.cast(weight, tf.float32) for weight in _cubic_weights(distance)]
        own = _cubic_weights(tf.cast(distance, tf.float32))
        if is_integer:
            unit = 1.0 / (COEFFICIENT_SCALE * COEFFICIENT_SCALE) if is_down else 1.0
            own = [tf.cast(fixed_point(weight), tf.float32) * unit for weight in own]
        chosen = tf.stack([tf.where(is_thin, *pair) for pair in zip(own, weights, strict=True)])
        index = _taps_around(before, 4, size)
        return [*_lines(index, size), chosen] if is_down else [index, chosen]

    lines, rows, down_weights = make_table(lambda *e: table(True, *e), size[0], target[0], size[1])
    columns, across_weights = make_table(lambda *e: table(False, *e), size[1], target[1], size[0])
    across = _across(x, lines, columns, across_weights, target[1])
    picked = tf.reshape(
        tf.gather(across, rows, axis=1), tf.stack([tf.shape(x)[0], 4, target[0], target[1] * x.shape[3]])
    )
    down = _down(picked, down_weights, is_integer)
    if is_integer:
        down = tf.cast(tf.clip_by_value(tf.round(down), 0.0, 255.0), tf.uint8)
    return _image(down, x, target)


def _lanczos_weights(t: tf.Tensor) -> list[tf.Tensor]:
    """interpolateLanczos4: eight float32 weights from the float32 distance `t`, normalised in float32."""
    farthest = settled(t + 3.0)
    angle = settled(-tf.cast(farthest, tf.float64) * math.pi * 0.25)
    sine, cosine = tf.sin(angle), tf.cos(angle)
    weights = []
    for k, (by_sine, by_cosine) in enumerate(ROTATIONS):
        half = math.sqrt(0.5) if k % 2 else 1.0
        offset = settled(farthest - float(k))
        y = settled(-tf.cast(offset, tf.float64) * math.pi * 0.25)
        is_here = tf.abs(offset) < 1e-6
        sum_of_both = settled(by_sine * half * sine) + settled(by_cosine * half * cosine)
        value = settled(settled(sum_of_both) / settled(tf.where(is_here, tf.ones_like(y), y * y)))
        weights.append(tf.where(is_here, tf.fill(tf.shape(t), 1e30), tf.cast(value, tf.float32)))
    total = weights[0]
    for weight in weights[1:]:
        total = settled(total + weight)
    factor = divide(tf.ones_like(total), total)
    return [weight * factor for weight in weights]


def _lanczos(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """HResizeLanczos4 and VResizeLanczos4: uint8 in int32 sums, (sum + 2²¹) >> 22; float32 products and sums.

    Sums of uint8 along a row stay under 2²⁴, so float32 holds them exactly, in whatever order they are added.
    """
    is_integer = x.dtype == tf.uint8

    def table(is_down: bool, size: tf.Tensor, target: tf.Tensor) -> list[tf.Tensor]:
        before, distance = split(tf.cast(middles(size, target), tf.float32))
        index, weights = _taps_around(before, 8, size), tf.stack(_lanczos_weights(distance))
        if is_integer:
            weights = fixed_point(weights) if is_down else tf.cast(fixed_point(weights), tf.float32)
        return [*_lines(index, size), weights] if is_down else [index, weights]

    lines, rows, down_weights = make_table(lambda *e: table(True, *e), size[0], target[0])
    columns, across_weights = make_table(lambda *e: table(False, *e), size[1], target[1])
    across = _across(x, lines, columns, across_weights, target[1])
    if not is_integer:
        shape = tf.stack([tf.shape(x)[0], 8, target[0], target[1] * x.shape[3]])
        return _image(_down(tf.reshape(tf.gather(across, rows, axis=1), shape), down_weights, False), x, target)
    picked = tf.gather(tf.cast(across, tf.int32), rows, axis=1) * tf.reshape(down_weights, [-1, 1])
    down = tf.reduce_sum(tf.reshape(picked, tf.stack([tf.shape(x)[0], 8, target[0] * target[1] * x.shape[3]])), axis=1)
    down = tf.cast(tf.clip_by_value(tf.bitwise.right_shift(down + (1 << 21), 22), 0, 255), tf.uint8)
    return _image(down, x, target)
