"""JPEG, PNG, GIF and BMP bytes to pixels."""

from __future__ import annotations

import tensorflow as tf

from pbcompile.steps.kernels import bmp
from pbcompile.steps.kernels import exif as exif_reader
from pbcompile.steps.kernels.colour import to_gray


def decode(contents: tf.Tensor, channels: str, exif: str) -> tf.Tensor:
    """uint8 [1, H, W, 1 or 3] of the file `contents`; see `pbcompile.steps.decoding.decode`."""
    is_gray = channels == "GRAY"
    is_bmp = tf.equal(tf.strings.substr(contents, 0, 2), b"BM")
    is_gif = tf.equal(tf.strings.substr(contents, 0, 3), b"GIF")
    other = tf.logical_or(is_bmp, is_gif)
    image = tf.cond(
        other,
        lambda: tf.cond(is_bmp, lambda: bmp.decode(contents, is_gray), lambda: _gif(contents, is_gray)),
        lambda: _jpeg_or_png(contents, is_gray),
    )
    image = tf.expand_dims(image, 0)
    image.set_shape([1, None, None, 1 if is_gray else 3])
    if exif == "apply":
        image = exif_reader.turn_upright(image, exif_reader.orientation(contents))
    return tf.reverse(image, [3]) if channels == "BGR" else image


def _jpeg_or_png(contents: tf.Tensor, is_gray: bool) -> tf.Tensor:
    """The kernel of DecodeJpeg reads PNG too.  INTEGER_ACCURATE is the transform that libjpeg users get by default."""
    return tf.raw_ops.DecodeJpeg(contents=contents, channels=1 if is_gray else 3, dct_method="INTEGER_ACCURATE")


def _gif(contents: tf.Tensor, is_gray: bool) -> tf.Tensor:
    frame = tf.raw_ops.DecodeGif(contents=contents)[:1]
    return to_gray(frame, "RGB", "opencv")[0] if is_gray else frame[0]
