"""Luma and subsampled chroma to RGB: the integers of OpenCV's color_yuv."""

from __future__ import annotations

import tensorflow as tf

SHIFT = 20
LUMA, V_TO_RED, V_TO_GREEN, U_TO_GREEN, U_TO_BLUE = 1220542, 1673527, -852492, -409993, 2116026
"""ITUR_BT_601_CY, CVR, CVG, CUG, CUB."""


def frame_to_rgb(x: tf.Tensor, channels: str) -> tf.Tensor:
    """uint8 [N, H, W, 3] of [N, H · 3/2, W, 1], for YUYV of [N, H, W, 2].

    Chroma is worked out once for each of its samples, then added to the luma of the pixels it belongs to.
    """
    if channels == "YUYV":
        count = tf.shape(x)[0]
        height, width = tf.shape(x)[1], tf.shape(x)[2]
        pairs = tf.reshape(x, tf.stack([count * height, width // 2, 4]))
        luma = tf.reshape(tf.gather(pairs, [0, 2], axis=2), tf.stack([count * height, 1, width // 2, 2, 1]))
        u, v = pairs[..., 1:2], pairs[..., 3:4]
    else:
        count, rows, width = tf.shape(x)[0], tf.shape(x)[1], tf.shape(x)[2]
        height = rows * 2 // 3
        luma = tf.reshape(x[:, :height], tf.stack([count * (height // 2), 2, width // 2, 2, 1]))
        u, v = _chroma(x[:, height:], channels, count, height // 2, width // 2)
    rgb = _add(luma, _terms(u, v))
    rgb = tf.reshape(rgb, tf.stack([count, height, width, 3]))
    size = x.shape[1] if channels == "YUYV" or x.shape[1] is None else x.shape[1] * 2 // 3
    rgb.set_shape([x.shape[0], size, x.shape[2], 3])
    return rgb


def _chroma(
    x: tf.Tensor, channels: str, count: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """U and V, each uint8 [N · height, width, 1]; a Reshape that fails where the frame has odd sizes."""
    if channels == "I420":
        planes = tf.reshape(x, tf.stack([count, 2, height, width]))
        u, v = (tf.reshape(planes[:, i], tf.stack([count * height, width, 1])) for i in (0, 1))
        return u, v
    pairs = tf.reshape(x, tf.stack([count * height, width, 2]))
    first, second = pairs[..., :1], pairs[..., 1:]
    return (first, second) if channels == "NV12" else (second, first)


def _terms(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """int32 [M, width, 3]: what chroma adds to red, green and blue, with half of the last place for rounding."""
    u, v = tf.cast(u, tf.int32) - 128, tf.cast(v, tf.int32) - 128
    half = 1 << (SHIFT - 1)
    return tf.concat([half + V_TO_RED * v, half + V_TO_GREEN * v + U_TO_GREEN * u, half + U_TO_BLUE * u], axis=-1)


def _add(luma: tf.Tensor, terms: tf.Tensor) -> tf.Tensor:
    """uint8 [M, rows, width, 2, 3] of luma [M, rows, width, 2, 1] and chroma terms [M, width, 3]."""
    bright = tf.maximum(tf.cast(luma, tf.int32) - 16, 0) * LUMA
    total = tf.bitwise.right_shift(bright + terms[:, tf.newaxis, :, tf.newaxis, :], SHIFT)
    return tf.cast(tf.clip_by_value(total, 0, 255), tf.uint8)
