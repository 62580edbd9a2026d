"""Weighted sums along rows and columns, added up in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from pbcompile.steps.kernels.sizes import Extent


@dataclass(frozen=True)
class Taps:
    """Which samples make up each sample of the result, and how much of each.

    places: int64 [T, 2], pairs of (index in the result, index in the source), ascending
    weights: [T], one for each pair
    size: how many samples the source has
    target: how many samples the result has
    """

    places: tf.Tensor
    weights: tf.Tensor
    size: Extent
    target: Extent


def pick(valid: tf.Tensor, source: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
    """`places` and `weights` of those of the [target, K] candidates that are `valid`; `source` is int32 [target, K]."""
    chosen = tf.where(valid)
    places = tf.stack([chosen[:, 0], tf.cast(tf.gather_nd(source, chosen), tf.int64)], axis=1)
    return [places, tf.gather_nd(weights, chosen)]


def weigh(x: tf.Tensor, taps: Taps) -> tf.Tensor:
    """[size, M] to [target, M]: each row of the result is the sum of weighted rows, added one by one in their order.

    A sparse matrix times a dense one: its kernel adds each product to the result with one rounding for the product
    and one for the sum, as a loop in C without fused multiply-add does.
    """
    shape = tf.stack([tf.cast(taps.target, tf.int64), tf.cast(taps.size, tf.int64)])
    return tf.raw_ops.SparseTensorDenseMatMul(a_indices=taps.places, a_values=taps.weights, a_shape=shape, b=x)


def _summed(x: tf.Tensor, taps: Taps, dtype: tf.DType) -> tf.Tensor:
    """`weigh` along the first of any number of axes."""
    shape = tf.shape(x)
    flat = tf.reshape(tf.cast(x, dtype), tf.stack([shape[0], tf.reduce_prod(shape[1:])]))
    return tf.reshape(weigh(flat, taps), tf.concat([[taps.target], shape[1:]], 0))


Between = Callable[[tf.Tensor], tf.Tensor]
"""What is done to the sums along one side before those along the other: rounding."""


def weigh_both(
    x: tf.Tensor, first: Taps, second: Taps, is_width_first: Extent, between: Between, dtype: tf.DType
) -> tf.Tensor:
    """[N, H, W, C] to [N, h, w, C] in `dtype`: along one side, then `between`, then along the other.

    `first` belongs to the width where `is_width_first` (a bool, or a scalar tensor), to the height where not.  The axis
    that is summed over must come first, so the image is turned over before each sum.
    """
    if isinstance(is_width_first, bool):
        turn, turn_back = ([2, 0, 1, 3], [1, 0, 2, 3]) if is_width_first else ([1, 0, 2, 3], [1, 2, 0, 3])
    else:
        turn = tf.where(is_width_first, [2, 0, 1, 3], [1, 0, 2, 3])
        turn_back = tf.where(is_width_first, [1, 0, 2, 3], [1, 2, 0, 3])
    halfway = between(_summed(tf.transpose(x, turn), first, dtype))
    result = tf.transpose(_summed(tf.transpose(halfway, [2, 1, 0, 3]), second, dtype), turn_back)
    result.set_shape([x.shape[0], None, None, x.shape[3]])
    return result
