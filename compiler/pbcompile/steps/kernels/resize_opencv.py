"""`cv2.resize` from OpenCV 4.5 to 5.0 (modules/imgproc/src/resize.cpp), pixel for pixel."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels.sizes import Extent, make_table

COEFFICIENT_SCALE = 2048.0
"""INTER_RESIZE_COEF_SCALE: weights of the fixed-point code have 11 bits."""


def resize(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str) -> tf.Tensor:
    """[N, H, W, C] uint8 or float32 of `size`, resized to `target`."""
    if method == "nearest":
        return _nearest(x, size, target)
    return _linear_fixed_point(x, size, target) if x.dtype == tf.uint8 else _linear_float(x, size, target)


def _scale(size: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """float64 source pixels per target pixel, by two divisions as `cv::resize` and `hal::resize` do them."""
    return 1.0 / (tf.cast(target, tf.float64) / tf.cast(size, tf.float64))


def _nearest(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    def taps(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        # resizeNN: min(floor(i · scale), size − 1), in double
        at = tf.floor(tf.cast(tf.range(target), tf.float64) * _scale(size, target))
        return [tf.minimum(tf.cast(at, tf.int32), size - 1)]

    for axis in (0, 1):
        (index,) = make_table(taps, size[axis], target[axis])
        x = tf.gather(x, index, axis=axis + 1)
    return x


def _positions(size: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Left neighbour (int32) and distance from it (float32) of every target pixel."""
    at = tf.cast((tf.cast(tf.range(target), tf.float64) + 0.5) * _scale(size, target) - 0.5, tf.float32)
    left = tf.floor(at)
    return tf.cast(left, tf.int32), at - left


def _linear_columns(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
    """Left and right column and their weights in 1/2048; outside of the image the edge pixel alone counts."""
    left, distance = _positions(size, target)
    distance = tf.where((left < 0) | (left >= size - 1), tf.zeros_like(distance), distance)
    left = tf.clip_by_value(left, 0, size - 1)
    return [left, tf.minimum(left + 1, size - 1), *_weights(distance)]


def _linear_rows(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
    """Upper and lower row and their weights in 1/2048; unlike columns, both weights stay at the edges."""
    upper, distance = _positions(size, target)
    return [tf.clip_by_value(upper, 0, size - 1), tf.clip_by_value(upper + 1, 0, size - 1), *_weights(distance)]


def _weights(distance: tf.Tensor) -> Sequence[tf.Tensor]:
    """saturate_cast<short>: rounded half to even."""
    return [tf.cast(tf.round(weight * COEFFICIENT_SCALE), tf.int32) for weight in (1.0 - distance, distance)]


def _linear_fixed_point(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """HResizeLinear<uchar, int, short> and VResizeLinear<uchar, int, short>.

    Across: h = s0·a0 + s1·a1.  Down: (((h0 >> 4)·b0 >> 16) + ((h1 >> 4)·b1 >> 16) + 2) >> 2.
    Halving both sides goes through INTER_AREA's (a + b + c + d + 2) >> 2 in OpenCV, which is what this gives too.
    """
    upper, lower, weight_upper, weight_lower = make_table(_linear_rows, size[0], target[0])
    left, right, weight_left, weight_right = make_table(_linear_columns, size[1], target[1])

    def across(rows: tf.Tensor) -> tf.Tensor:
        picked = tf.gather(x, rows, axis=1)
        at_left, at_right = (tf.cast(tf.gather(picked, columns, axis=2), tf.int32) for columns in (left, right))
        total = at_left * weight_left[:, tf.newaxis] + at_right * weight_right[:, tf.newaxis]
        return tf.bitwise.right_shift(total, 4)

    down = tf.bitwise.right_shift(across(upper) * weight_upper[:, tf.newaxis, tf.newaxis], 16)
    down += tf.bitwise.right_shift(across(lower) * weight_lower[:, tf.newaxis, tf.newaxis], 16)
    return tf.cast(tf.bitwise.right_shift(down + 2, 2), tf.uint8)


def _linear_float(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """float32 as the x86 builds of OpenCV do it, by Intel IPP: positions in double, a + (b − a)·t with one rounding.

    The product and the sum are made in float64, where the product of two float32 is exact: a fused multiply-add.
    IPP takes no image that is one pixel high or wide; OpenCV's own code, which does, has positions in float.
    """

    def taps(size: tf.Tensor, target: tf.Tensor, other_size: tf.Tensor) -> Sequence[tf.Tensor]:
        at = (tf.cast(tf.range(target), tf.float64) + 0.5) * _scale(size, target) - 0.5
        is_thin = tf.fill(tf.shape(at), tf.minimum(size, other_size) < 2)
        at = tf.where(is_thin, tf.cast(tf.cast(at, tf.float32), tf.float64), at)
        before = tf.floor(at)
        distance = tf.cast(tf.cast(at - before, tf.float32), tf.float64)
        first = tf.cast(before, tf.int32)
        return [tf.clip_by_value(first, 0, size - 1), tf.clip_by_value(first + 1, 0, size - 1), distance]

    def mix(first: tf.Tensor, second: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
        step = tf.cast(second - first, tf.float64)
        return tf.cast(step * distance + tf.cast(first, tf.float64), tf.float32)

    upper, lower, down = make_table(taps, size[0], target[0], size[1])
    left, right, along = make_table(taps, size[1], target[1], size[0])

    def across(rows: tf.Tensor) -> tf.Tensor:
        picked = tf.gather(x, rows, axis=1)
        return mix(tf.gather(picked, left, axis=2), tf.gather(picked, right, axis=2), along[:, tf.newaxis])

    return mix(across(upper), across(lower), down[:, tf.newaxis, tf.newaxis])
