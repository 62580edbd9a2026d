"""Where a resized image lies in its frame, and which part of an image keeps a ratio."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pbcompile.steps.kernels.sizes import divide, settled


def _python_round(x: tf.Tensor) -> tf.Tensor:
    """`int(round(x))`: half to even."""
    return tf.cast(tf.round(x), tf.int32)


def place(
    like: str, is_centered: bool, upscale: bool, is_rounded_down: bool, extents: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """[rows, columns, top, left] of an image of (height, width) in a frame of (height, width), all int32 scalars.

    opencv: as the YOLO families do around cv2: one ratio, sizes rounded (YOLOX: cut off), half of the rest before.
    pillow: ImageOps.pad.  tensorflow: tf.image.resize_with_pad, in float32.
    """
    if like == "tensorflow":
        rows, columns, top, left = _place_tensorflow(extents)
    elif like == "opencv":
        rows, columns, top, left = _place_opencv(upscale, is_rounded_down, extents)
    else:
        rows, columns, top, left = _place_pillow(extents)
    if not is_centered:
        top, left = tf.zeros_like(top), tf.zeros_like(left)
    return [rows, columns, top, left]


def _place_opencv(upscale: bool, is_rounded_down: bool, extents: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    h, w, fh, fw = (tf.cast(extent, tf.float64) for extent in extents)
    ratio = tf.minimum(divide(fh, h), divide(fw, w))
    if not upscale:
        ratio = tf.minimum(ratio, 1.0)
    sides = [settled(h * ratio), settled(w * ratio)]
    whole = [tf.maximum(tf.cast(s, tf.int32) if is_rounded_down else _python_round(s), 1) for s in sides]
    return [*whole, (extents[2] - whole[0]) // 2, (extents[3] - whole[1]) // 2]


def _place_pillow(extents: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    h, w, fh, fw = (tf.cast(extent, tf.float64) for extent in extents)
    is_wider = divide(w, h) > divide(fw, fh)
    rows = tf.where(is_wider, tf.maximum(_python_round(divide(h, w) * fw), 1), extents[2])
    columns = tf.where(is_wider, extents[3], tf.maximum(_python_round(divide(w, h) * fh), 1))
    spare = [tf.cast(frame - side, tf.float64) * 0.5 for frame, side in ((extents[2], rows), (extents[3], columns))]
    return [rows, columns, *(_python_round(half) for half in spare)]


def vanishes(height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> list[tf.Tensor]:
    """[1 where ImageOps.pad rounds a side of the image to 0 and shows the border alone], else [0]."""
    h, w, fh, fw = (tf.cast(extent, tf.float64) for extent in (height, width, rows, columns))
    is_wider = divide(w, h) > divide(fw, fh)
    side = tf.where(is_wider, _python_round(divide(h, w) * fw), _python_round(divide(w, h) * fh))
    return [tf.cast(tf.equal(side, 0) & tf.not_equal(divide(w, h), divide(fw, fh)), tf.int32)]


def _place_tensorflow(extents: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    h, w, fh, fw = (tf.cast(extent, tf.float32) for extent in extents)
    ratio = tf.maximum(divide(w, fw), divide(h, fh))
    high, wide = divide(h, ratio), divide(w, ratio)
    top, left = (tf.floor((frame - side) / 2.0) for frame, side in ((fh, high), (fw, wide)))
    return [tf.cast(tf.floor(high), tf.int32), tf.cast(tf.floor(wide), tf.int32)] + [
        tf.maximum(tf.cast(start, tf.int32), 0) for start in (top, left)
    ]


def fit_box(height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """float32 [2, 2]: (start, stop) of the rows and columns that ImageOps.fit resizes, in double until the end."""
    h, w, oh, ow = (tf.cast(extent, tf.float64) for extent in (height, width, rows, columns))
    has, wants = divide(w, h), divide(ow, oh)
    is_wider = has >= wants
    wide = tf.where(is_wider & tf.not_equal(has, wants), settled(wants * h), w)
    high = tf.where(is_wider, h, divide(w, wants))
    edges = []
    for side, part in ((h, high), (w, wide)):
        start = settled(settled(side - part) * 0.5)
        edges.append(tf.stack([start, settled(start + part)]))
    return tf.cast(tf.stack(edges), tf.float32)


def fit_crop(height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> list[tf.Tensor]:
    """[top, left, height, width] of the whole pixels that Keras crops to (`smart_resize`, `crop_to_aspect_ratio`)."""
    high = tf.maximum(tf.minimum(height, width * rows // columns), 1)
    wide = tf.maximum(tf.minimum(width, height * columns // rows), 1)
    return [(height - high) // 2, (width - wide) // 2, high, wide]


def pad_to_ratio(height: tf.Tensor, width: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> list[tf.Tensor]:
    """[top, bottom, left, right] that Keras adds before it resizes (`Resizing(pad_to_aspect_ratio=True)`)."""
    high = tf.maximum(height, width * rows // columns)
    wide = tf.maximum(width, height * columns // rows)
    top, left = (high - height) // 2, (wide - width) // 2
    return [top, top, left, left]  # the same on both sides: an odd pixel is left out
