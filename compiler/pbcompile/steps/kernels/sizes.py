"""Sizes that are numbers in the spec or tensors in the graph, and tables made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from pbcompile.tensor_type import TensorType

Extent = Any
"""A height or width: an `int` where the spec fixes it, a scalar int32 tensor where it is known only when fed."""


def image_size(x: tf.Tensor, given: TensorType) -> tuple[Extent, Extent]:
    """Height and width of the [N, H, W, C] image `x`, each an int where `given` knows it."""
    x.set_shape(given.shape)  # what the type rules know and TensorFlow may have lost
    height, width = given.size
    if height is not None and width is not None:
        return height, width
    shape = tf.shape(x)
    return (shape[1] if height is None else height), (shape[2] if width is None else width)


def is_fixed(*extents: Extent) -> bool:
    """True when every extent is a plain number."""
    return all(isinstance(extent, int) for extent in extents)


def largest(a: Extent, b: Extent) -> Extent:
    """The larger of two extents."""
    return max(a, b) if is_fixed(a, b) else tf.maximum(a, b)


def smallest(a: Extent, b: Extent) -> Extent:
    """The smaller of two extents."""
    return min(a, b) if is_fixed(a, b) else tf.minimum(a, b)


def make_extents(build: Callable[..., Sequence[tf.Tensor]], *extents: Extent) -> tuple[Extent, ...]:
    """`build(*extents)`, scalar int32 tensors, as plain numbers where all extents are fixed."""
    if not is_fixed(*extents):
        return tuple(build(*(tf.convert_to_tensor(extent, tf.int32) for extent in extents)))
    with tf.init_scope():
        return tuple(int(value) for value in build(*(tf.constant(extent, tf.int32) for extent in extents)))


def settled(x: tf.Tensor) -> tf.Tensor:
    """`x`, rounded here and now.

    TensorFlow rewrites float arithmetic of a graph before it runs it: it merges constants across sums, products and
    quotients, which rounds differently.  It does not look through a Maximum, here with a number below all others.
    """
    return tf.maximum(x, tf.constant(-1e30, x.dtype))


def divide(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The quotient of positive floats, rounded once.

    TensorFlow multiplies by the reciprocal where a divisor is constant, and makes 1 / b a Reciprocal, which Eigen
    approximates.  Here each depends on the other, and so neither is a constant.
    """
    return settled(tf.maximum(a, -b) / tf.maximum(b, -a))


def make_table(build: Callable[..., Sequence[tf.Tensor]], *extents: Extent) -> tuple[tf.Tensor, ...]:
    """`build(*extents)`: constants where all extents are fixed, ops of the graph otherwise, by the same formula.

    `build` takes scalar int32 tensors.  For fixed extents it runs at once, outside the graph, so both forms hold
    the same bits.
    """
    if not is_fixed(*extents):
        return tuple(build(*(tf.convert_to_tensor(extent, tf.int32) for extent in extents)))
    return tuple(tf.constant(value) for value in make_values(build, *extents))


def make_values(build: Callable[..., Sequence[tf.Tensor]], *extents: int) -> list[npt.NDArray[Any]]:
    """`build(*extents)` for fixed extents, as NumPy arrays."""
    with tf.init_scope():
        return [table.numpy() for table in build(*(tf.constant(extent, tf.int32) for extent in extents))]
