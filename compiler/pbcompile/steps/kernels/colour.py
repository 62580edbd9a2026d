"""Channel orders and colour spaces."""

from __future__ import annotations

import tensorflow as tf

GRAY_WEIGHTS = {"opencv": ((9798, 19235, 3735), 15), "pillow": ((19595, 38470, 7471), 16)}
"""Weights of R, G, B and the shift: RGB2Gray<uchar> of OpenCV, L24 of Pillow's Convert.c."""


def reorder(x: tf.Tensor, given: str, to: str) -> tf.Tensor:
    """[N, H, W, C] with the channels `given` as those of `to`; a missing alpha is opaque."""
    if given == "GRAY":
        colour = tf.tile(x, [1, 1, 1, 3])
        given = "RGB" if to.startswith("RGB") else "BGR"
    elif len(given) == 3 and to[:3] == given[::-1]:
        colour = tf.reverse(x, [3])
    elif to[:3] == given[:3]:
        colour = x[..., :3] if len(given) > 3 else x
    else:
        order = [given.index(channel) for channel in to if channel in given]
        return _with_alpha(tf.gather(x, order, axis=3), len(order) < len(to))
    return _with_alpha(colour, len(to) > 3)


def _with_alpha(x: tf.Tensor, wanted: bool) -> tf.Tensor:
    if not wanted:
        return x
    opaque = tf.constant(255 if x.dtype.is_integer else 1, x.dtype)
    return tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, 1]], constant_values=opaque)


def to_gray(x: tf.Tensor, given: str, like: str) -> tf.Tensor:
    """[N, H, W, 3 or 4] as [N, H, W, 1]: integers on uint8, float32 in the order that OpenCV's builds use."""
    red, green, blue = (x[..., given.index(channel) : given.index(channel) + 1] for channel in "RGB")
    if x.dtype == tf.uint8:
        weights, shift = GRAY_WEIGHTS[like]
        pairs = zip((red, green, blue), weights, strict=True)
        red, green, blue = (tf.cast(channel, tf.int32) * weight for channel, weight in pairs)
        return tf.cast(tf.bitwise.right_shift(red + green + blue + (1 << (shift - 1)), shift), tf.uint8)
    exact = [tf.cast(tf.constant(weight, tf.float32), tf.float64) for weight in (0.299, 0.587, 0.114)]
    total = tf.cast(green * tf.constant(0.587, tf.float32), tf.float64)
    for channel, weight in ((red, exact[0]), (blue, exact[2])):  # fused multiply-adds, in this order
        total = tf.cast(tf.cast(tf.cast(channel, tf.float64) * weight + total, tf.float32), tf.float64)
    return tf.cast(total, tf.float32)
