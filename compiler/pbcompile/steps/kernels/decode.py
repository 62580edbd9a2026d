"""JPEG, PNG, GIF and BMP bytes to pixels."""

from __future__ import annotations

import tensorflow as tf

from pbcompile.steps.kernels import bmp, cmyk, gif
from pbcompile.steps.kernels import exif as exif_reader
from pbcompile.steps.kernels.colour import to_gray, to_gray_of_decoders


def decode(contents: tf.Tensor, channels: str, exif: str, like: str) -> tf.Tensor:
    """uint8 [1, H, W, 1 or 3] of the file `contents`; see `pbcompile.steps.decoding.decode`."""
    is_gray = channels == "GRAY"
    is_bmp = tf.equal(tf.strings.substr(contents, 0, 2), b"BM")
    is_gif = tf.equal(tf.strings.substr(contents, 0, 3), b"GIF")

    def rare() -> tf.Tensor:
        if like == "opencv" and is_gray:
            return tf.cond(
                is_bmp,
                lambda: bmp.decode_gray(contents),
                lambda: to_gray(gif.decode(contents, like)[None], "RGB", like)[0],
            )
        return tf.cond(is_bmp, lambda: bmp.decode(contents, like), lambda: gif.decode(contents, like))

    def common() -> tf.Tensor:
        is_jpeg = tf.equal(tf.strings.substr(contents, 0, 2), b"\xff\xd8")
        return tf.cond(is_jpeg, lambda: _jpeg(contents, is_gray, like), lambda: _png(contents, is_gray, like))

    image = tf.cond(tf.logical_or(is_bmp, is_gif), rare, common)
    image = tf.expand_dims(image, 0)
    image.set_shape([1, None, None, 1 if is_gray and like == "opencv" else 3])
    if is_gray and like == "pillow":
        image = to_gray(image, "RGB", like)
    if exif == "apply":
        image = exif_reader.turn_upright(image, exif_reader.orientation(contents))
    return tf.reverse(image, [3]) if channels == "BGR" else image


def _jpeg(contents: tf.Tensor, is_gray: bool, like: str) -> tf.Tensor:
    """INTEGER_ACCURATE is the transform that users of libjpeg get by default."""
    is_luma = is_gray and like == "opencv"  # Pillow makes gray of the colours
    is_cmyk = tf.equal(tf.raw_ops.ExtractJpegShape(contents=contents, output_type=tf.int32)[2], 4)

    def of_four() -> tf.Tensor:
        image = cmyk.decode(contents, like)
        return to_gray_of_decoders(image) if is_luma else image

    def usual() -> tf.Tensor:
        return tf.raw_ops.DecodeJpeg(contents=contents, channels=1 if is_luma else 3, dct_method="INTEGER_ACCURATE")

    return tf.cond(is_cmyk, of_four, usual)


def _png(contents: tf.Tensor, is_gray: bool, like: str) -> tf.Tensor:
    """Both libraries read PNGs by libpng, as TensorFlow does.  Pillow saturates 16-bit gray."""
    if like == "opencv" and is_gray:
        # OpenCV makes gray of an animation's colours as cvtColor does, not by libpng
        return tf.cond(
            _is_animated(contents),
            lambda: to_gray(tf.raw_ops.DecodePng(contents=contents, channels=3)[tf.newaxis], "RGB", like)[0],
            lambda: tf.raw_ops.DecodePng(contents=contents, channels=1),
        )
    if like == "opencv":
        return tf.raw_ops.DecodePng(contents=contents, channels=3)
    is_deep = tf.equal(tf.strings.substr(contents, 24, 2), b"\x10\0")

    def saturated() -> tf.Tensor:
        deep = tf.raw_ops.DecodePng(contents=contents, channels=1, dtype=tf.uint16)
        return tf.tile(tf.cast(tf.minimum(tf.cast(deep, tf.int32), 255), tf.uint8), [1, 1, 3])

    return tf.cond(is_deep, saturated, lambda: tf.raw_ops.DecodePng(contents=contents, channels=3))


def _is_animated(contents: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has a chunk acTL before its data."""

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        name = tf.strings.substr(contents, at + 4, 4)
        return (at + 12 < tf.strings.length(contents)) & tf.not_equal(name, b"IDAT") & tf.not_equal(name, b"acTL")

    def skip(at: tf.Tensor) -> list[tf.Tensor]:
        size = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, at, 4), tf.uint8), tf.int32)
        return [at + 12 + tf.reduce_sum(size * tf.constant([1 << 24, 1 << 16, 1 << 8, 1]))]

    (at,) = tf.while_loop(goes_on, skip, [tf.constant(8)])
    return tf.equal(tf.strings.substr(contents, tf.minimum(at + 4, tf.strings.length(contents)), 4), b"acTL")
