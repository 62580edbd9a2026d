"""One door to the resizers of all libraries."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels import opencv, pillow
from pbcompile.steps.kernels.sizes import Extent, is_fixed

TENSORFLOW_METHODS = {
    "nearest": "nearest",
    "linear": "bilinear",
    "cubic": "bicubic",
    "area": "area",
    "lanczos": "lanczos3",
}


def resize(
    x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str, like: str, antialias: bool = False
) -> tf.Tensor:
    """[N, H, W, C] of `size` resized to `target` with the pixels of `like`."""
    if like == "tensorflow":
        to = tf.constant(target, tf.int32) if is_fixed(*target) else tf.stack(list(target))
        return tf.image.resize(x, to, TENSORFLOW_METHODS[method], antialias=antialias)
    if is_fixed(*size, *target) and tuple(size) == tuple(target):
        return x
    if like == "opencv":
        return opencv.resize(x, size, target, method)
    return pillow.resize(x, size, target, method, is_old=like == "pillow-12")
