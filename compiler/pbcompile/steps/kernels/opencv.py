"""`cv2.resize` of OpenCV 4.5 to 5.0 (modules/imgproc/src/resize.cpp), pixel for pixel."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels import opencv_area, opencv_kernels, opencv_linear
from pbcompile.steps.kernels.opencv_positions import IPP_CHANNELS, scale_of
from pbcompile.steps.kernels.sizes import Extent, is_fixed, make_table


def resize(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str) -> tf.Tensor:
    """[N, H, W, C] uint8 or float32 of `size`, resized to `target`."""
    if method == "nearest":
        return _nearest(x, size, target)
    if method == "linear":
        return opencv_linear.fixed_point(x, size, target) if x.dtype == tf.uint8 else _linear(x, size, target)
    if method == "area":
        return opencv_area.resize(x, size, target)
    if method == "lanczos" and x.dtype == tf.float32 and not is_fixed(*size, *target):
        # OpenCV copies an image that keeps its size; its weights of 1e-30 would change some zeros
        keeps = tf.equal(size[0], target[0]) & tf.equal(size[1], target[1])
        return tf.cond(keeps, lambda: x, lambda: opencv_kernels.resize(x, size, target, method))
    return opencv_kernels.resize(x, size, target, method)


def _linear(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    """float32: Intel IPP's or OpenCV's own loops, which leave halving both sides to INTER_AREA."""
    if x.shape[3] in IPP_CHANNELS:
        return opencv_linear.on_floats(x, size, target)
    if is_fixed(*size, *target):
        halves = all(have == 2 * want for have, want in zip(size, target, strict=True))
        return (opencv_area.resize if halves else opencv_linear.on_floats)(x, size, target)
    halves = tf.equal(size[0], 2 * target[0]) & tf.equal(size[1], 2 * target[1])
    return tf.cond(
        halves, lambda: opencv_area.resize(x, size, target), lambda: opencv_linear.on_floats(x, size, target)
    )


def _nearest(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    def taps(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        # resizeNN: min(floor(i · scale), size − 1), in double
        at = tf.floor(tf.cast(tf.range(target), tf.float64) * scale_of(size, target))
        return [tf.minimum(tf.cast(at, tf.int32), size - 1)]

    for axis in (0, 1):
        (index,) = make_table(taps, size[axis], target[axis])
        x = tf.gather(x, index, axis=axis + 1)
    return x
