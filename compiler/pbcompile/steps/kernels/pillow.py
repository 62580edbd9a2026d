"""`PIL.Image.resize` of Pillow 9 to 13 (src/libImaging/Resample.c and Geometry.c), pixel for pixel."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pbcompile.steps.kernels import banded
from pbcompile.steps.kernels.sizes import Extent, divide, is_fixed, make_table, make_values, settled
from pbcompile.steps.kernels.taps import Taps, pick, weigh_both

PRECISION_BITS = 22
"""Fraction bits of the weights on uint8: 32 − 8 − 2."""


def _box(x: tf.Tensor) -> tf.Tensor:
    return tf.where((x > -0.5) & (x <= 0.5), tf.ones_like(x), tf.zeros_like(x))


def _linear(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - tf.abs(x), 0.0)


def _sinc(x: tf.Tensor) -> tf.Tensor:
    angle = x * math.pi
    return tf.where(
        tf.equal(x, 0.0), tf.ones_like(x), tf.sin(angle) / tf.where(tf.equal(x, 0.0), tf.ones_like(x), angle)
    )


def _hamming(x: tf.Tensor) -> tf.Tensor:
    # 0.54f and 0.46f in the source: float32 numbers, used in double
    c0, c1 = (tf.cast(tf.constant(value, tf.float32), tf.float64) for value in (0.54, 0.46))
    x = tf.abs(x)
    value = _sinc(x) * (c0 + c1 * tf.cos(x * math.pi))
    return tf.where(tf.equal(x, 0.0), tf.ones_like(x), tf.where(x >= 1.0, tf.zeros_like(x), value))


def _cubic(x: tf.Tensor) -> tf.Tensor:
    a = -0.5
    x = tf.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, tf.zeros_like(x)))


def _lanczos(x: tf.Tensor) -> tf.Tensor:
    return tf.where(
        (x >= -3.0) & (x < 3.0),
        _sinc(x) * _sinc(settled(x / tf.maximum(tf.constant(3.0, x.dtype), -tf.abs(x)))),
        tf.zeros_like(x),
    )


FILTERS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], float]] = {
    "box": (_box, 0.5),
    "linear": (_linear, 1.0),
    "hamming": (_hamming, 1.0),
    "cubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Each method's filter, in float64, and how far it reaches."""


Box = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""From (height, width, rows, columns) float32 [2, 2]: the part of the source to resize, (start, stop) of each side."""


def whole_image(height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The box of a plain resize."""
    del rows, columns
    return tf.cast(tf.stack([[0, height], [0, width]]), tf.float32)


def resize(
    x: tf.Tensor,
    size: Sequence[Extent],
    target: Sequence[Extent],
    method: str,
    is_old: bool,
    box: Box = whole_image,
) -> tf.Tensor:
    """uint8 or float32 [N, H, W, C] of `size`, the part in `box` resized to `target`; 4 channels are RGBA.

    `is_old`: the order of Pillow 9 to 12, width first.
    """
    if method == "nearest":
        return _nearest(x, size, target, box)
    if x.shape[3] == 4 and x.dtype == tf.uint8:
        # an image that keeps its size is copied, so its colours are not multiplied and divided again
        (is_same,) = make_table(lambda *extents: [_keeps_size(box, *extents)], *size, *target)
        resized = _resample(tf.where(is_same, x, _to_premultiplied(x)), size, target, method, is_old, box)
        return tf.where(is_same, resized, _from_premultiplied(resized))
    return _resample(x, size, target, method, is_old, box)


def _keeps_size(box: Box, height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    same = whole_image(rows, columns, rows, columns)
    return tf.reduce_all(
        tf.equal(box(height, width, rows, columns), same) & tf.equal(whole_image(height, width, 0, 0), same)
    )


def _span(box: Box, axis: Extent, extents: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """Size, target, and start and stop of the box (float64) along `axis`: 0 the height, 1 the width."""
    edges = tf.cast(tf.gather(box(*extents), axis), tf.float64)
    return tf.gather(tf.stack(extents[:2]), axis), tf.gather(tf.stack(extents[2:]), axis), edges[0], edges[1]


def _extent(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """float64 length of a side of the box, a difference of two float in C."""
    return tf.cast(tf.cast(stop - start, tf.float32), tf.float64)


def _nearest(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], box: Box) -> tf.Tensor:
    """ImagingScaleAffine: places are found by adding the scale again and again, in double."""

    def table(axis: int, *extents: tf.Tensor) -> Sequence[tf.Tensor]:
        size, target, start, stop = _span(box, axis, extents)
        scale = divide(_extent(start, stop), tf.cast(target, tf.float64))
        first = settled(start + settled(scale * 0.5))
        steps = tf.where(tf.range(target) > 0, scale + tf.zeros([target], tf.float64), first)
        return [tf.minimum(tf.cast(tf.cumsum(steps), tf.int32), size - 1)]

    for axis in (0, 1):
        (index,) = make_table(functools.partial(table, axis), *size, *target)
        x = tf.gather(x, index, axis=axis + 1)
    return x


def coefficients(
    method: str, size: tf.Tensor, target: tf.Tensor, start: tf.Tensor, stop: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """precompute_coeffs: int32 [target, K] source indices, whether each is used, and its float64 weight."""
    function, reach = FILTERS[method]
    scale = divide(_extent(start, stop), tf.cast(target, tf.float64))
    widening = tf.maximum(scale, 1.0)
    support = reach * widening
    center = settled(start + settled((tf.cast(tf.range(target), tf.float64) + 0.5) * scale))
    first = tf.maximum(tf.cast(settled(center - support) + 0.5, tf.int32), 0)  # casts cut off the fraction, as in C
    end = tf.minimum(tf.cast(settled(center + support) + 0.5, tf.int32), size)
    source = first[:, tf.newaxis] + tf.range(tf.reduce_max(end - first))
    used = source < end[:, tf.newaxis]
    offset = settled(settled(tf.cast(source, tf.float64) - center[:, tf.newaxis]) + 0.5)
    weight = function(settled(offset * divide(tf.ones_like(widening), widening)))
    weight = tf.where(used, weight, tf.zeros_like(weight))
    total = tf.cumsum(weight, axis=1)[:, -1:]  # adds in the order of the taps, as the loop in C does
    return source, used, weight / tf.where(tf.equal(total, 0.0), tf.ones_like(total), total)


def _resample(
    x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str, is_old: bool, box: Box
) -> tf.Tensor:
    """ImagingResample: along one side and then along the other, rounded in between to the dtype of `x`.

    uint8: int32 sums of pixels and weights in 22-bit fixed point, (sum + 2²¹) >> 22, clipped.  float32: float64 sums.
    A side that keeps its length has weights of one and zero, so the pass that Pillow leaves out changes nothing.
    """
    is_integer = x.dtype == tf.uint8

    def table(axis: Extent, *extents: tf.Tensor) -> Sequence[tf.Tensor]:
        source, used, weight = coefficients(method, *_span(box, axis, extents))
        if is_integer:
            scaled = weight * float(1 << PRECISION_BITS)
            weight = tf.cast(tf.where(scaled < 0.0, scaled - 0.5, scaled + 0.5), tf.int32)
        return pick(used, source, weight)

    def rounded(total: tf.Tensor) -> tf.Tensor:
        if not is_integer:
            return tf.cast(total, tf.float32)
        level = tf.bitwise.right_shift(total + (1 << (PRECISION_BITS - 1)), PRECISION_BITS)
        return tf.cast(tf.clip_by_value(level, 0, 255), tf.uint8)

    def along(axis: Extent) -> Taps:
        places, weights = make_table(functools.partial(table, axis), *size, *target)
        if isinstance(axis, int):
            return Taps(places, weights, size[axis], target[axis])
        return Taps(places, weights, tf.gather(tf.stack(list(size)), axis), tf.gather(tf.stack(list(target)), axis))

    is_width_first = True if is_old else _is_width_first(size, target)
    if is_integer and is_fixed(*size, *target):
        matrices = []
        for axis in (0, 1):
            places, weights = make_values(functools.partial(table, axis), *size, *target)
            matrices.append(banded.dense(places, weights, size[axis], target[axis]))
        if all(banded.most_taps(matrix) <= banded.MOST_TAPS for matrix in matrices):
            return _by_products(x, matrices, bool(is_width_first))
    first_axis = int(is_width_first) if isinstance(is_width_first, bool) else tf.cast(is_width_first, tf.int32)
    dtype = tf.int32 if is_integer else tf.float64
    return rounded(weigh_both(x, along(first_axis), along(1 - first_axis), is_width_first, rounded, dtype))


def _by_products(x: tf.Tensor, matrices: Sequence[npt.NDArray[np.int64]], is_width_first: bool) -> tf.Tensor:
    """Weights of rows and columns as matrices; a side whose matrix is the identity is left as it is, as Pillow does."""
    for axis in (1, 0) if is_width_first else (0, 1):
        matrix = matrices[axis]
        if not np.array_equal(matrix, (1 << PRECISION_BITS) * np.eye(*matrix.shape, dtype=np.int64)):
            x = (banded.weigh_height, banded.weigh_width)[axis](x, matrix, PRECISION_BITS)
    return x


def _is_width_first(size: Sequence[Extent], target: Sequence[Extent]) -> Extent:
    """False where the height loses more than twice as many pixels as the width: Pillow 13 starts with it then."""
    rows, columns = size[0] - target[0], size[1] - target[1]
    if is_fixed(rows, columns):
        return not (rows > 0 and rows > columns * 2)
    return tf.logical_not((rows > 0) & (rows > columns * 2))


def _multiply(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """MULDIV255."""
    product = a * b + 128
    return tf.bitwise.right_shift(tf.bitwise.right_shift(product, 8) + product, 8)


def _to_premultiplied(x: tf.Tensor) -> tf.Tensor:
    """RGBA to RGBa: what Pillow makes before it resizes an image with alpha."""
    colour, alpha = tf.cast(x[..., :3], tf.int32), tf.cast(x[..., 3:], tf.int32)
    return tf.concat([tf.cast(_multiply(colour, alpha), tf.uint8), x[..., 3:]], axis=3)


def _from_premultiplied(x: tf.Tensor) -> tf.Tensor:
    """RGBa to RGBA: 255·colour / alpha, cut off and clipped; left as it is where alpha is 0 or 255."""
    colour, alpha = tf.cast(x[..., :3], tf.int32), tf.cast(x[..., 3:], tf.int32)
    divided = tf.minimum(255 * colour // tf.maximum(alpha, 1), 255)
    plain = tf.equal(alpha, 0) | tf.equal(alpha, 255)
    return tf.concat([tf.cast(tf.where(plain, colour, divided), tf.uint8), x[..., 3:]], axis=3)
