"""INTER_CUBIC and INTER_LANCZOS4 of `cv2.resize`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels.opencv_positions import COEFFICIENT_SCALE, fixed_point, inside, middles, split
from pbcompile.steps.kernels.sizes import Extent, divide, make_table, settled

CUBIC_A = -0.75
IPP_CUBIC_SIDE = 4
"""Intel IPP, which the x86 builds of OpenCV use for INTER_CUBIC, takes no image with a side of fewer pixels."""

ROTATIONS = [(1, 0), (-1, -1), (0, 1), (1, -1), (-1, 0), (1, 1), (0, -1), (-1, 1)]
"""sin(a − kπ/4) as (sin a, cos a) times these, odd rows over √2: the table `cs` of interpolateLanczos4."""


def resize(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str) -> tf.Tensor:
    """uint8 or float32 [N, H, W, C]; taps outside of the image are on its edge."""
    if method == "lanczos":
        return _lanczos_fixed_point(x, size, target) if x.dtype == tf.uint8 else _lanczos_float(x, size, target)
    return _cubic(x, size, target)


def _taps_around(before: tf.Tensor, count: int, size: tf.Tensor) -> list[tf.Tensor]:
    """`count` columns of indices around `before`, moved inside of the image."""
    return [inside(before + k - (count // 2 - 1), size) for k in range(count)]


def _column(weight: tf.Tensor) -> tf.Tensor:
    return weight[:, tf.newaxis]


def _row(weight: tf.Tensor) -> tf.Tensor:
    return weight[:, tf.newaxis, tf.newaxis]


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
        is_thin = tf.fill(tf.shape(at), tf.minimum(size, other_size) < IPP_CUBIC_SIDE)
        before, distance = split(tf.where(is_thin, tf.cast(tf.cast(at, tf.float32), tf.float64), at))
        weights = [tf.cast(weight, tf.float32) for weight in _cubic_weights(distance)]
        own = _cubic_weights(tf.cast(distance, tf.float32))
        if is_integer:
            unit = 1.0 / (COEFFICIENT_SCALE * COEFFICIENT_SCALE) if is_down else 1.0
            own = [tf.cast(fixed_point(weight), tf.float32) * unit for weight in own]
        return _taps_around(before, 4, size) + [tf.where(is_thin, *pair) for pair in zip(own, weights, strict=True)]

    rows = make_table(lambda *e: table(True, *e), size[0], target[0], size[1])
    columns = make_table(lambda *e: table(False, *e), size[1], target[1], size[0])

    across = None
    for index, weight in zip(columns[:4], columns[4:], strict=True):
        term = tf.cast(tf.gather(x, index, axis=2), tf.float32) * _column(weight)
        across = term if across is None else across + term
    down = None
    for index, weight in reversed(list(zip(rows[:4], rows[4:], strict=True))):
        term = tf.gather(across, index, axis=1) * _row(weight)
        down = term if down is None else term + down
    return tf.cast(tf.clip_by_value(tf.round(down), 0.0, 255.0), tf.uint8) if is_integer else down


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


def _lanczos_table(size: tf.Tensor, target: tf.Tensor) -> list[tf.Tensor]:
    before, distance = split(tf.cast(middles(size, target), tf.float32))
    return _taps_around(before, 8, size) + _lanczos_weights(distance)


def _lanczos_fixed_point(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """HResizeLanczos4<uchar, int, short>, VResizeLanczos4<uchar, int, short>: int32 sums, (sum + 2²¹) >> 22."""

    def table(size: tf.Tensor, target: tf.Tensor) -> list[tf.Tensor]:
        taps = _lanczos_table(size, target)
        return taps[:8] + [fixed_point(weight) for weight in taps[8:]]

    rows, columns = make_table(table, size[0], target[0]), make_table(table, size[1], target[1])
    wide = tf.cast(x, tf.int32)
    across = tf.add_n([tf.gather(wide, i, axis=2) * _column(w) for i, w in zip(columns[:8], columns[8:], strict=True)])
    down = tf.add_n([tf.gather(across, i, axis=1) * _row(w) for i, w in zip(rows[:8], rows[8:], strict=True)])
    return tf.cast(tf.clip_by_value(tf.bitwise.right_shift(down + (1 << 21), 22), 0, 255), tf.uint8)


def _lanczos_float(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """float32 products and sums in the order of the taps."""
    rows, columns = make_table(_lanczos_table, size[0], target[0]), make_table(_lanczos_table, size[1], target[1])
    across = down = None
    for index, weight in zip(columns[:8], columns[8:], strict=True):
        term = tf.gather(x, index, axis=2) * _column(weight)
        across = term if across is None else across + term
    for index, weight in zip(rows[:8], rows[8:], strict=True):
        term = tf.gather(across, index, axis=1) * _row(weight)
        down = term if down is None else down + term
    return down
