"""One door to the resizers of all libraries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pbcompile.steps.kernels import framing, opencv, pillow
from pbcompile.steps.kernels.layout import crop, pad_constant
from pbcompile.steps.kernels.sizes import Extent, is_fixed, make_extents

TENSORFLOW_METHODS = {
    "nearest": "nearest",
    "linear": "bilinear",
    "cubic": "bicubic",
    "area": "area",
    "lanczos": "lanczos3",
}


def fit(x: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str, like: str) -> tf.Tensor:
    """[N, H, W, C] of `size`, its middle of the ratio of `target` resized to `target`."""
    if like in ("pillow", "pillow-12"):
        return pillow.resize(x, size, target, method, like == "pillow-12", framing.fit_box)
    top, left, height, width = make_extents(framing.fit_crop, *size, *target)
    return resize(crop(x, top, left, height, width), (height, width), target, method, like)


def letterbox(
    x: tf.Tensor,
    size: Sequence[Extent],
    frame: Sequence[int],
    placement: Sequence[Extent],
    fill: Sequence[float],
    method: str,
    like: str,
) -> tf.Tensor:
    """[N, H, W, C] of `size`, resized and put at `placement` (rows, columns, top, left), in a frame of `fill`."""
    rows, columns, top, left = placement
    resized = resize(x, size, (rows, columns), method, like)
    borders = [(top, frame[0] - rows - top), (left, frame[1] - columns - left)]
    framed = pad_constant(resized, borders, fill)
    if like not in ("pillow", "pillow-12"):
        return framed
    (is_gone,) = make_extents(framing.vanishes, *size, *frame)
    if is_fixed(is_gone) and not is_gone:
        return framed
    border = tf.constant(np.asarray(fill, x.dtype.as_numpy_dtype))
    return tf.where(tf.equal(is_gone, 1), border, framed)


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
