"""Windows and OS/2 bitmaps, as OpenCV and Pillow read them."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from pbcompile.steps.kernels import bmp_runs
from pbcompile.steps.kernels.colour import to_gray_of_decoders

FILE_HEADER = 14
"""Bytes before the bitmap header, whose first number is its own length: 12 for OS/2 bitmaps, at least 40 for others."""

BIT_FIELDS = 3
"""The kind of compression that is none: the header says which bits are which colour."""

WITH_ALPHA = 56
"""Headers of that length have a mask for alpha too, and OpenCV looks at the masks of those only."""


@dataclass(frozen=True)
class Header:
    """Scalars of a bitmap's header, int32 but for `is_old`, a bool: the OS/2 header of 12 bytes."""

    size: tf.Tensor
    is_old: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    compression: tf.Tensor
    start: tf.Tensor


def decode(contents: tf.Tensor, like: str) -> tf.Tensor:
    """uint8 RGB [H, W, 3] of 1, 4, 8, 16, 24 or 32 bits a pixel, or of run-length code."""
    raw = tf.io.decode_raw(contents, tf.uint8)
    header = _header(raw)
    return tf.cond(header.bits > 8, lambda: _direct(raw, header, like), lambda: _by_palette(raw, header))


def decode_gray(contents: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, 1] with the weights of OpenCV's decoders, which it makes of colours under masks in float32."""
    raw = tf.io.decode_raw(contents, tf.uint8)
    header = _header(raw)
    image = decode(contents, "opencv")
    part = tf.cast(image, tf.float32) * tf.constant([0.299, 0.587, 0.114])
    float_gray = tf.cast((part[..., 0:1] + part[..., 1:2]) + part[..., 2:3], tf.uint8)
    return tf.where(_has_masks(header) & (header.size >= WITH_ALPHA), float_gray, to_gray_of_decoders(image))


def _number(raw: tf.Tensor, at: int, count: int) -> tf.Tensor:
    """The little-endian int32 made of `count` bytes."""
    digits = tf.cast(raw[at : at + count], tf.int32)
    return tf.reduce_sum(digits * tf.constant([1 << (8 * i) for i in range(count - 1)] + [_top(count)], tf.int32))


def _top(count: int) -> int:
    return 1 << (8 * (count - 1))  # a fourth byte over 127 wraps around to a negative height, as it should


def _header(raw: tf.Tensor) -> Header:
    size = _number(raw, FILE_HEADER, 4)
    is_old = tf.less(size, 40)
    return Header(
        size=size,
        is_old=is_old,
        width=tf.where(is_old, _number(raw, 18, 2), _number(raw, 18, 4)),
        height=tf.where(is_old, _number(raw, 20, 2), _number(raw, 22, 4)),
        bits=tf.where(is_old, _number(raw, 24, 2), _number(raw, 28, 2)),
        compression=tf.where(is_old, 0, _number(raw, 30, 4)),
        start=_number(raw, 10, 4),
    )


def _has_masks(header: Header) -> tf.Tensor:
    return tf.equal(header.compression, BIT_FIELDS) & tf.equal(header.bits, 32)


def _rows(raw: tf.Tensor, header: Header) -> tf.Tensor:
    """uint8 [H, bytes of a row], the top row first."""
    height = tf.abs(header.height)
    stride = (header.width * header.bits + 31) // 32 * 4
    rows = tf.reshape(raw[header.start : header.start + stride * height], tf.stack([height, stride]))
    return _top_first(rows, header)


def _top_first(rows: tf.Tensor, header: Header) -> tf.Tensor:
    step = tf.stack([tf.where(header.height > 0, -1, 1), 1])
    return tf.strided_slice(rows, [0, 0], [0, 0], step, begin_mask=3, end_mask=3)


def _direct(raw: tf.Tensor, header: Header, like: str) -> tf.Tensor:
    """Colours as they stand: 5 or 6 bits each, or bytes in the order B, G, R or as the masks say."""
    rows = _rows(raw, header)
    size = tf.stack([tf.abs(header.height), header.width])

    def of_five() -> tf.Tensor:
        pairs = tf.cast(tf.reshape(rows[:, : 2 * header.width], tf.concat([size, [2]], 0)), tf.int32)
        pixel = pairs[..., 0] + 256 * pairs[..., 1]
        is_six = tf.equal(header.compression, BIT_FIELDS) & tf.equal(_number(raw, 54, 4), 0xF800)
        green_bits = tf.where(is_six, 6, 5)
        parts = []
        for offset, bits in ((5 + green_bits, 5), (5, green_bits), (0, 5)):
            most = tf.bitwise.left_shift(1, bits) - 1
            level = tf.bitwise.bitwise_and(tf.bitwise.right_shift(pixel, offset), most)
            # OpenCV puts zeros behind the bits; Pillow stretches them to 255.
            parts.append(tf.bitwise.left_shift(level, 8 - bits) if like == "opencv" else level * 255 // most)
        return tf.cast(tf.stack(parts, axis=-1), tf.uint8)

    def of_bytes() -> tf.Tensor:
        count = header.bits // 8
        pixels = tf.reshape(rows[:, : header.width * count], tf.concat([size, [count]], 0))
        masks = [_number(raw, 54 + 4 * i, 4) for i in range(3)]
        places = tf.stack([_byte_of(mask) for mask in masks])
        obeys = _has_masks(header) & (header.size >= WITH_ALPHA) if like == "opencv" else _has_masks(header)
        return tf.gather(pixels, tf.where(obeys, places, [2, 1, 0]), axis=2)

    return tf.cond(tf.equal(header.bits, 16), of_five, of_bytes)


def _byte_of(mask: tf.Tensor) -> tf.Tensor:
    """Which byte of a pixel a mask of 8 bits stands for."""
    return tf.reduce_sum(tf.cast(tf.equal(tf.bitwise.bitwise_and(mask, [0xFF, 0xFFFF, 0xFFFFFF]), 0), tf.int32))


def _by_palette(raw: tf.Tensor, header: Header) -> tf.Tensor:
    """1, 4 or 8 bits a pixel, each the number of a colour in the palette."""
    index = tf.cond(
        tf.equal(header.compression, 0),
        lambda: _indices(raw, header),
        lambda: _top_first(
            bmp_runs.decode(raw[header.start :], header.height, header.width, tf.equal(header.compression, 2)), header
        ),
    )
    entry = tf.where(header.is_old, 3, 4)
    first = FILE_HEADER + header.size
    palette = tf.reshape(raw[first : first + (header.start - first) // entry * entry], tf.stack([-1, entry]))
    return tf.gather(tf.reverse(palette[:, :3], [1]), index)


def _indices(raw: tf.Tensor, header: Header) -> tf.Tensor:
    column = tf.range(header.width) * header.bits
    shift = 8 - header.bits - tf.math.floormod(column, 8)
    index = tf.cast(tf.gather(_rows(raw, header), column // 8, axis=1), tf.int32)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(index, shift), tf.bitwise.left_shift(1, header.bits) - 1)
