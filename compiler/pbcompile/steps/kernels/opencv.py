"""`cv2.resize` of OpenCV 4.5 to 5.0 (modules/imgproc/src/resize.cpp), pixel for pixel."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels import opencv_area, opencv_kernels, opencv_linear
from pbcompile.steps.kernels.opencv_positions import scale_of
from pbcompile.steps.kernels.sizes import Extent, make_table


def resize(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str) -> tf.Tensor:
    """[N, H, W, C] uint8 or float32 of `size`, resized to `target`."""
    if method == "nearest":
        return _nearest(x, size, target)
    if method == "linear":
        linear = opencv_linear.fixed_point if x.dtype == tf.uint8 else opencv_linear.fused
        return linear(x, size, target)
    if method == "area":
        return opencv_area.resize(x, size, target)
    return opencv_kernels.resize(x, size, target, method)


def _nearest(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent]) -> tf.Tensor:
    def taps(size: tf.Tensor, target: tf.Tensor) -> Sequence[tf.Tensor]:
        # resizeNN: min(floor(i · scale), size − 1), in double
        at = tf.floor(tf.cast(tf.range(target), tf.float64) * scale_of(size, target))
        return [tf.minimum(tf.cast(at, tf.int32), size - 1)]

    for axis in (0, 1):
        (index,) = make_table(taps, size[axis], target[axis])
        x = tf.gather(x, index, axis=axis + 1)
    return x
