"""Where `cv2.resize` reads: what all of its methods share."""

from __future__ import annotations

import tensorflow as tf

from pbcompile.steps.kernels.sizes import divide, settled

COEFFICIENT_SCALE = 2048.0
"""INTER_RESIZE_COEF_SCALE: weights of the fixed-point code have 11 bits."""

IPP_CHANNELS = (1, 3, 4)
"""How many channels an image has that OpenCV's x86 builds give to Intel IPP."""


def scale_of(size: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """float64 source pixels per target pixel, by two divisions as `cv::resize` and `hal::resize` do them."""
    return divide(tf.constant(1.0, tf.float64), divide(tf.cast(target, tf.float64), tf.cast(size, tf.float64)))


def middles(size: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """float64 place in the source of the middle of every target pixel, counted from the middle of the first pixel."""
    return settled(settled((tf.cast(tf.range(target), tf.float64) + 0.5) * scale_of(size, target)) - 0.5)


def split(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The pixel before each place (int32), and the distance from it in the dtype of `at`."""
    before = tf.floor(at)
    return tf.cast(before, tf.int32), settled(at - before)


def fixed_point(weight: tf.Tensor) -> tf.Tensor:
    """`saturate_cast<short>(weight * 2048)`, rounded half to even; int32."""
    return tf.cast(tf.round(weight * COEFFICIENT_SCALE), tf.int32)


def inside(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Indices outside of the image moved to its edge."""
    return tf.clip_by_value(index, 0, size - 1)
