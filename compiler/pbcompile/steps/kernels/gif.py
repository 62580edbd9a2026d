"""The first frame of a GIF on its canvas, as OpenCV and Pillow show it."""

from __future__ import annotations

import tensorflow as tf

SCREEN = 13
"""Bytes before the global palette: signature, size of the canvas, flags, background."""

NUMBERS = b"".join(bytes([i]) * 3 for i in range(256))
"""A palette in which each colour is its own number."""


def decode(contents: tf.Tensor, like: str) -> tf.Tensor:
    """uint8 RGB [H, W, 3].

    DecodeGif knows no canvas and no transparency, so it is given a palette of numbers and used for its LZW alone.
    opencv: the canvas has the global palette's background colour, black without one, and shows where a pixel is
    transparent; a frame that leaves it fails.  pillow: the canvas has the frame's own transparent colour, the first
    one without transparency, transparent pixels keep their colour, and the canvas grows with the frame.
    """
    raw = tf.io.decode_raw(contents, tf.uint8)
    height, width = _short(raw, 8), _short(raw, 6)
    has_global, global_count = _palette(raw[10])
    at, control = _first_frame(raw, SCREEN + tf.where(has_global, 3 * global_count, 0))
    transparent = tf.where(control > 0, _transparent(raw[control : control + 7]), -1)
    left, top, columns, rows = (_short(raw, at + 1 + 2 * i) for i in range(4))
    has_local, local_count = _palette(raw[at + 9])
    start = tf.where(has_local, at + 10, SCREEN)
    count = tf.where(has_local, local_count, tf.where(has_global, global_count, 0))

    # DecodeGif would put the frame at its place in an image of the frame's own size, and leave out transparent pixels.
    numbered = _overwrite(contents, at + 1, bytes(4), 4)
    numbered = _overwrite(numbered, control + 3, bytes(1), tf.cast(control > 0, tf.int32))
    numbered = _overwrite(numbered, start, NUMBERS, 3 * count)
    index = tf.cast(tf.raw_ops.DecodeGif(contents=numbered)[0, :, :, 0], tf.int32)
    palette = tf.reshape(raw[start : start + 3 * count], tf.stack([count, 3]))
    frame = tf.gather(palette, index)
    if like == "opencv":
        background = tf.cast(raw[11], tf.int32)
        colours = tf.concat([raw[SCREEN : SCREEN + 3 * global_count], tf.zeros([3], tf.uint8)], 0)
        colour = colours[tf.where(has_global, 3 * background, 3 * global_count) :][:3]
        colour = tf.where(has_global, colour, tf.zeros_like(colour))
        frame = tf.where(tf.equal(index, transparent)[..., tf.newaxis], colour, frame)
    else:
        colour = tf.gather(palette, tf.maximum(transparent, 0))
        height, width = tf.maximum(height, top + rows), tf.maximum(width, left + columns)
    borders = tf.stack([[top, height - top - rows], [left, width - left - columns], [0, 0]])  # < 0 fails
    is_inside = tf.pad(tf.ones_like(index, tf.bool), borders[:2])[..., tf.newaxis]
    return tf.where(is_inside, tf.pad(frame, borders), colour)


def _overwrite(contents: tf.Tensor, at: tf.Tensor, by: bytes, count: tf.Tensor | int) -> tf.Tensor:
    """`contents` with `count` bytes of `by` in place of its own from `at` on."""
    return tf.strings.join(
        [
            tf.strings.substr(contents, 0, at),
            tf.strings.substr(by, 0, count),
            tf.strings.substr(contents, at + count, -1),
        ]
    )


def _short(raw: tf.Tensor, at: tf.Tensor | int) -> tf.Tensor:
    return tf.cast(raw[at], tf.int32) + 256 * tf.cast(raw[at + 1], tf.int32)


def _palette(flags: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether there is a palette, and how many colours it would have."""
    bits = tf.cast(flags, tf.int32)
    return bits >= 128, tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(bits, 7))


def _transparent(control: tf.Tensor) -> tf.Tensor:
    """The number that a graphic control extension calls transparent; −1 for none."""
    fields = tf.cast(control, tf.int32)
    return tf.where(tf.bitwise.bitwise_and(fields[3], 1) > 0, fields[6], -1)


def _first_frame(raw: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the first image stands, and the last graphic control extension before it; 0 for none."""

    def is_extension(at: tf.Tensor, control: tf.Tensor) -> tf.Tensor:
        del control
        return tf.equal(tf.cast(raw[at], tf.int32), ord("!"))

    def is_block(at: tf.Tensor) -> tf.Tensor:
        return tf.not_equal(tf.cast(raw[at], tf.int32), 0)

    def skip(at: tf.Tensor, control: tf.Tensor) -> list[tf.Tensor]:
        (end,) = tf.while_loop(is_block, lambda at: [at + 1 + tf.cast(raw[at], tf.int32)], [at + 2])
        return [end + 1, tf.where(tf.equal(tf.cast(raw[at + 1], tf.int32), 0xF9), at, control)]

    at, control = tf.while_loop(is_extension, skip, [start, tf.constant(0)])
    return at, control
