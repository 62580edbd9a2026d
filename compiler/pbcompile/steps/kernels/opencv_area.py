"""INTER_AREA of `cv2.resize`: the mean of the part of the source that each target pixel covers."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels import opencv_linear
from pbcompile.steps.kernels.opencv_positions import scale_of
from pbcompile.steps.kernels.sizes import Extent, divide, is_fixed, make_table, settled
from pbcompile.steps.kernels.taps import Taps, pick, weigh, weigh_both

EPSILON = 2.220446049250313e-16
"""DBL_EPSILON."""

LANES = 4
"""How many float32 OpenCV's vector code takes at a time, on every x86: that of resize.cpp is SSE's."""


def resize(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """uint8 or float32 [N, H, W, C]: means where both sides shrink, a kind of linear interpolation otherwise."""
    if is_fixed(*size, *target):
        shrinks = all(have >= want for have, want in zip(size, target, strict=True))
        return _means(x, size, target) if shrinks else _enlarge(x, size, target)
    shrinks = tf.logical_and(*(tf.greater_equal(have, want) for have, want in zip(size, target, strict=True)))
    return tf.cond(shrinks, lambda: _means(x, size, target), lambda: _enlarge(x, size, target))


def _enlarge(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """Linear between the edges of pixels: most target pixels have one source pixel, the ones over an edge have two."""

    def over_edges(size: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = tf.cast(tf.range(target), tf.float64)
        before = tf.floor(index * scale_of(size, target))
        inverse = divide(tf.cast(target, tf.float64), tf.cast(size, tf.float64))
        distance = tf.cast((index + 1.0) - settled((before + 1.0) * inverse), tf.float32)
        distance = settled(tf.where(distance <= 0, tf.zeros_like(distance), distance - tf.floor(distance)))
        return tf.cast(before, tf.int32), distance

    linear = opencv_linear.fixed_point if x.dtype == tf.uint8 else opencv_linear.plain
    return linear(x, size, target, over_edges)


def _means(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """Means of uint8, and of float32 by whole numbers of pixels or by parts of them."""
    if x.dtype == tf.uint8:
        return _weighted_means(x, size, target)
    if is_fixed(*size, *target):
        whole = all(have % want == 0 for have, want in zip(size, target, strict=True))
        return _whole_means(x, size, target) if whole else _weighted_means(x, size, target)
    remainders = [tf.math.floormod(have, want) for have, want in zip(size, target, strict=True)]
    is_whole = tf.equal(remainders[0] + remainders[1], 0)
    return tf.cond(is_whole, lambda: _whole_means(x, size, target), lambda: _weighted_means(x, size, target))


def _whole_means(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """resizeAreaFast_ of float32: sums of four pixels, added up in the order of the rows, times 1 / count.

    Of 2×2 pixels of one or four channels, vector code adds the two sums of two, four values at a time.
    """
    channels = x.shape[3]
    down, across = size[0] // target[0], size[1] // target[1]
    parts = tf.reshape(x, tf.stack([tf.shape(x)[0], target[0], down, target[1], across, channels]))
    parts = tf.reshape(tf.transpose(parts, [2, 4, 0, 1, 3, 5]), tf.stack([down * across, -1]))
    fours = down * across // 4
    groups = tf.reshape(parts[: 4 * fours], tf.stack([fours, 4, tf.shape(parts)[1]]))
    terms = tf.concat([((groups[:, 0] + groups[:, 1]) + groups[:, 2]) + groups[:, 3], parts[4 * fours :]], 0)
    count = tf.shape(terms)[0]
    places = tf.cast(tf.stack([tf.zeros([count], tf.int32), tf.range(count)], axis=1), tf.int64)
    total = weigh(terms, Taps(places, tf.ones([count]), count, 1))[0]
    if channels in (1, 4):
        is_vector = tf.equal(down, 2) & tf.equal(across, 2)
        if channels == 1:
            column = tf.math.floormod(tf.range(tf.size(total)), target[1])
            is_vector &= column < target[1] // LANES * LANES
        first = tf.gather(parts, tf.minimum(tf.range(4), down * across - 1))
        total = tf.where(is_vector, (first[0] + first[1]) + (first[2] + first[3]), total)
    mean = total * divide(tf.constant(1.0), tf.cast(down * across, tf.float32))
    result = tf.reshape(mean, tf.stack([tf.shape(x)[0], target[0], target[1], channels]))
    result.set_shape([x.shape[0], None, None, channels])
    return result


def _weighted_means(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """resizeArea_: float32 sums of weighted columns, then of weighted rows, each product and sum rounded.

    resizeAreaFast_ where both sides shrink by whole numbers: the sum, times one float32, rounded half to even; of 2×2
    pixels (sum + 2) >> 2.  Weights of 1 and one more factor make the first into the second.
    """

    def scales(height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> Sequence[tf.Tensor]:
        scale = tf.stack([scale_of(height, rows), scale_of(width, columns)])
        is_whole = tf.reduce_all(tf.abs(scale - tf.round(scale)) < EPSILON)
        scale = tf.where(tf.fill([2], is_whole), tf.round(scale), scale)
        count = tf.cast(scale[0] * scale[1], tf.float32)
        factor = tf.where(is_whole, divide(tf.constant(1.0), count), 1.0)
        return [scale, is_whole, factor, tf.logical_and(is_whole, tf.reduce_all(tf.equal(scale, 2.0)))]

    def table(
        axis: int, height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor
    ) -> Sequence[tf.Tensor]:
        scale, is_whole, _, _ = scales(height, width, rows, columns)
        return _covers((height, width)[axis], (rows, columns)[axis], scale[axis], is_whole)

    extents = (*size, *target)
    rows = make_table(lambda *e: table(0, *e), *extents)
    columns = make_table(lambda *e: table(1, *e), *extents)
    factor, is_two = make_table(lambda *e: scales(*e)[2:], *extents)
    across, down = (
        Taps(places, weights, size[axis], target[axis]) for axis, (places, weights) in ((1, columns), (0, rows))
    )
    total = weigh_both(x, across, down, True, tf.identity, tf.float32)
    mean = total * factor
    if x.dtype != tf.uint8:
        return mean
    # A mean of four ends in .0, .25, .5 or .75: an eighth more makes halves go up instead of to the even neighbour.
    return tf.cast(tf.round(mean + tf.where(is_two, 0.125, 0.0)), tf.uint8)


def _covers(size: tf.Tensor, target: tf.Tensor, scale: tf.Tensor, is_whole: tf.Tensor) -> Sequence[tf.Tensor]:
    """computeResizeAreaTab: the source pixels under each target pixel and how much of it they make up."""
    start = settled(tf.cast(tf.range(target), tf.float64) * scale)
    stop = settled(start + scale)
    cell = tf.minimum(scale, tf.cast(size, tf.float64) - start)
    last = tf.minimum(tf.floor(stop), tf.cast(size - 1, tf.float64))
    first = tf.minimum(tf.math.ceil(start), last)
    count = tf.cast(tf.reduce_max(last - first), tf.int32) + 2

    start, stop, cell, last, first = (tf.expand_dims(v, 1) for v in (start, stop, cell, last, first))
    source = first - 1.0 + tf.cast(tf.range(count), tf.float64)
    before, after = source < first, source >= last
    part_before = tf.where(first - start > 1e-3, first - start, 0.0)
    part_after = tf.where(stop - last > 1e-3, tf.minimum(tf.minimum(stop - last, 1.0), cell), 0.0)
    part = tf.where(
        before, part_before + 0.0 * source, tf.where(after, part_after + 0.0 * source, tf.ones_like(source))
    )
    weight = tf.cast(part / cell, tf.float32)
    weight = tf.where(is_whole, tf.ones_like(weight), weight)
    return pick((part > 0.0) & (source <= last), tf.cast(source, tf.int32), weight)
