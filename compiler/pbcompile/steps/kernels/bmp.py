"""Windows bitmaps, as OpenCV reads them."""

from __future__ import annotations

import tensorflow as tf

FILE_HEADER = 14
"""Bytes before the bitmap header, whose first number is its own length: 12 for OS/2 bitmaps, at least 40 for others."""


def decode(contents: tf.Tensor, is_gray: bool) -> tf.Tensor:
    """uint8 [H, W, 3], or [H, W, 1] with OpenCV's 14-bit weights.

    24 and 32 bits are decoded by DecodeBmp, fewer through the palette.
    """
    raw = tf.io.decode_raw(contents, tf.uint8)
    is_old = tf.less(_number(raw, FILE_HEADER, 4), 40)
    bits = tf.where(is_old, _number(raw, 24, 2), _number(raw, 28, 2))
    image = tf.cond(
        bits > 8,
        lambda: tf.raw_ops.DecodeBmp(contents=contents, channels=0)[:, :, :3],
        lambda: _indexed(raw, bits, is_old),
    )
    return _gray(image) if is_gray else image


def _number(raw: tf.Tensor, at: int, count: int) -> tf.Tensor:
    """The little-endian int32 made of `count` bytes."""
    digits = tf.cast(raw[at : at + count], tf.int32)
    return tf.reduce_sum(digits * tf.constant([1 << (8 * i) for i in range(count - 1)] + [_top(count)], tf.int32))


def _top(count: int) -> int:
    return 1 << (8 * (count - 1))  # a fourth byte over 127 wraps around to a negative height, as it should


def _indexed(raw: tf.Tensor, bits: tf.Tensor, is_old: tf.Tensor) -> tf.Tensor:
    """1, 4 or 8 bits a pixel, each the number of a colour in the palette."""
    width = tf.where(is_old, _number(raw, 18, 2), _number(raw, 18, 4))
    signed_height = tf.where(is_old, _number(raw, 20, 2), _number(raw, 22, 4))
    height = tf.abs(signed_height)
    stride = (width * bits + 31) // 32 * 4
    start = _number(raw, 10, 4)
    rows = tf.reshape(raw[start : start + stride * height], tf.stack([height, stride]))
    rows = tf.strided_slice(
        rows, [0, 0], [0, 0], tf.stack([tf.where(signed_height > 0, -1, 1), 1]), begin_mask=3, end_mask=3
    )
    column = tf.range(width) * bits
    shift = 8 - bits - tf.math.floormod(column, 8)
    index = tf.bitwise.right_shift(tf.cast(tf.gather(rows, column // 8, axis=1), tf.int32), shift)
    index = tf.bitwise.bitwise_and(index, tf.bitwise.left_shift(1, bits) - 1)
    entry = tf.where(is_old, 3, 4)
    first = FILE_HEADER + _number(raw, FILE_HEADER, 4)
    palette = tf.reshape(raw[first : first + (start - first) // entry * entry], tf.stack([-1, entry]))
    return tf.gather(tf.reverse(palette[:, :3], [1]), index)


def _gray(image: tf.Tensor) -> tf.Tensor:
    """icvCvt_BGR2Gray of OpenCV's decoders: (1868·B + 9617·G + 4899·R + 2¹³) >> 14."""
    total = tf.reduce_sum(tf.cast(image, tf.int32) * tf.constant([4899, 9617, 1868], tf.int32), axis=2, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(total + (1 << 13), 14), tf.uint8)
