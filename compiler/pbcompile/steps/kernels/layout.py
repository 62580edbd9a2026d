"""Moving pixels: slices, borders, gathers along rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pbcompile.steps.kernels.sizes import Extent, is_fixed, make_table


def crop(x: tf.Tensor, top: Extent, left: Extent, height: Extent, width: Extent) -> tf.Tensor:
    """Rows top … top + height − 1 and columns left … left + width − 1 of [N, H, W, C].

    `Slice`, not `StridedSlice`: it refuses a rectangle outside of the image instead of giving less.
    """
    # To Slice −1 means "all there is"; −2 is an error that names the axis.
    extents = [n if is_fixed(n) else tf.where(n > 0, n, -2) for n in (height, width)]
    part = tf.slice(x, tf.stack([0, top, left, 0]), tf.stack([-1, *extents, -1]))
    part.set_shape([x.shape[0], *(n if is_fixed(n) else None for n in (height, width)), x.shape[3]])
    return part


def pad_constant(x: tf.Tensor, borders: Sequence[tuple[Extent, Extent]], values: Sequence[float]) -> tf.Tensor:
    """[N, H, W, C] with (before, after) rows and columns filled with one number or one per channel."""
    paddings = _paddings(borders)
    if len(set(values)) == 1:
        fill = tf.constant(np.asarray(values[0], x.dtype.as_numpy_dtype))
        padded = tf.pad(x, paddings, constant_values=fill)
        padded.set_shape([x.shape[0], None, None, x.shape[3]])
        return padded
    # PadV2 fills with one number only: several are laid around the image as blocks.
    fill = tf.constant(np.asarray(values, x.dtype.as_numpy_dtype))
    for axis, (before, after) in enumerate(borders, start=1):
        shape = tf.unstack(tf.shape(x))
        blocks = [
            tf.broadcast_to(fill, tf.stack([*shape[:axis], length, *shape[axis + 1 :]])) for length in (before, after)
        ]
        x = tf.concat([blocks[0], x, blocks[1]], axis=axis)
    return x


def _paddings(borders: Sequence[tuple[Extent, Extent]]) -> tf.Tensor:
    rows = [(0, 0), *borders, (0, 0)]
    if is_fixed(*(n for row in rows for n in row)):
        return tf.constant(rows, tf.int32)
    return tf.stack([tf.stack([tf.convert_to_tensor(n, tf.int32) for n in row]) for row in rows])


def pad_mirrored(
    x: tf.Tensor, sizes: Sequence[Extent], borders: Sequence[tuple[Extent, Extent]], mode: str
) -> tf.Tensor:
    """[N, H, W, C] with a border that repeats the edge, or mirrors with (`symmetric`) or without it (`reflect`).

    Gathers, because MirrorPad refuses borders wider than the image, which NumPy and OpenCV mirror again and again.
    """

    def indices(size: tf.Tensor, before: tf.Tensor, after: tf.Tensor) -> Sequence[tf.Tensor]:
        index = tf.range(size + before + after) - before
        if mode == "edge":
            return [tf.clip_by_value(index, 0, size - 1)]
        if mode == "symmetric":
            around = tf.math.floormod(index, 2 * size)
            return [tf.minimum(around, 2 * size - 1 - around)]
        period = tf.maximum(2 * size - 2, 1)  # one pixel is its own mirror image
        around = tf.math.floormod(index, period)
        return [tf.minimum(around, period - around)]

    for axis, (size, (before, after)) in enumerate(zip(sizes, borders, strict=True), start=1):
        if is_fixed(before, after) and before == after == 0:
            continue
        (index,) = make_table(indices, size, before, after)
        x = tf.gather(x, index, axis=axis)
    return x
