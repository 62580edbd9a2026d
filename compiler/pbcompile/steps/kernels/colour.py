"""Channel orders and colour spaces."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

GRAY_WEIGHTS = {"opencv": ((9798, 19235, 3735), 15), "pillow": ((19595, 38470, 7471), 16)}
"""Weights of R, G, B and the shift: RGB2Gray<uchar> of OpenCV, L24 of Pillow's Convert.c."""


YUV_WEIGHTS = {"YUV": ((2, 8061), (0, 14369)), "YCrCb": ((0, 11682), (2, 9241))}
"""For each of the two colour differences: which of R, G, B it belongs to, and its weight in 1/2¹⁴."""

LAB_MATRIX = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
LAB_WHITE = np.array([[0.950456], [1.0], [1.088754]])
"""sRGB2XYZ_D65 and D65 of OpenCV's color_lab.cpp."""


def to_difference(x: tf.Tensor, given: str, to: str) -> tf.Tensor:
    """uint8 RGB or BGR [N, H, W, 3] as YUV or YCrCb: RGB2YCrCb_i of OpenCV, 14-bit fixed point, clipped."""
    rgb = [tf.cast(x[..., given.index(channel)], tf.int32) for channel in "RGB"]
    luma = _descale(4899 * rgb[0] + 9617 * rgb[1] + 1868 * rgb[2], 14)
    others = [_descale((rgb[i] - luma) * weight + (128 << 14), 14) for i, weight in YUV_WEIGHTS[to]]
    return tf.cast(tf.clip_by_value(tf.stack([luma, *others], axis=-1), 0, 255), tf.uint8)


def _descale(total: tf.Tensor, shift: int) -> tf.Tensor:
    """CV_DESCALE: half of the last place added, then cut off."""
    return tf.bitwise.right_shift(total + (1 << (shift - 1)), shift)


def to_hsv(x: tf.Tensor, given: str) -> tf.Tensor:
    """uint8 RGB or BGR [N, H, W, 3] as HSV with hue in 0 … 179: RGB2HSV_b of OpenCV, quotients from 12-bit tables."""
    levels = np.arange(1, 256)
    by_value = tf.constant(np.concatenate([[0], np.rint((255 << 12) / levels)]), tf.int32)
    by_spread = tf.constant(np.concatenate([[0], np.rint((180 << 12) / (6.0 * levels))]), tf.int32)
    red, green, blue = (tf.cast(x[..., given.index(channel)], tf.int32) for channel in "RGB")
    value = tf.maximum(tf.maximum(red, green), blue)
    spread = value - tf.minimum(tf.minimum(red, green), blue)
    saturation = _descale(spread * tf.gather(by_value, value), 12)
    from_green_or_blue = tf.where(tf.equal(value, green), blue - red + 2 * spread, red - green + 4 * spread)
    hue = _descale(tf.where(tf.equal(value, red), green - blue, from_green_or_blue) * tf.gather(by_spread, spread), 12)
    hue = tf.where(hue < 0, hue + 180, hue)
    return tf.cast(tf.stack([hue, saturation, value], axis=-1), tf.uint8)


INVERSE_WEIGHTS = {"YUV": (18678, -9519, -6472, 33292), "YCrCb": (22987, -11698, -5636, 29049)}
"""What V (Cr) adds to red, V and U (Cb) to green, and U to blue, in 1/2¹⁴."""

HSV_LANES = 32
"""How many pixels of a row OpenCV's vector code takes at a time on a CPU with AVX2."""

HSV_SECTORS = ((1, 3, 0), (1, 0, 2), (3, 0, 1), (0, 2, 1), (0, 1, 3), (2, 1, 0))
"""For each sixth of the circle, which of the four levels are blue, green and red."""


def from_difference(x: tf.Tensor, given: str, to: str) -> tf.Tensor:
    """uint8 YUV or YCrCb [N, H, W, 3] as RGB or BGR: YCrCb2RGB_i of OpenCV, 14-bit fixed point, clipped."""
    luma, first, second = (tf.cast(x[..., i], tf.int32) for i in range(3))
    u, v = (first - 128, second - 128) if given == "YUV" else (second - 128, first - 128)
    v_red, v_green, u_green, u_blue = INVERSE_WEIGHTS[given]
    colours = {
        "R": luma + _descale(v * v_red, 14),
        "G": luma + _descale(v * v_green + u * u_green, 14),
        "B": luma + _descale(u * u_blue, 14),
    }
    return tf.cast(tf.clip_by_value(tf.stack([colours[channel] for channel in to], axis=-1), 0, 255), tf.uint8)


def from_hsv(x: tf.Tensor, to: str) -> tf.Tensor:
    """uint8 HSV [N, H, W, 3], hue in 0 … 179, as RGB or BGR: HSV2RGB_b of OpenCV with AVX2.

    In float32 with fused multiply-adds.  Its vector code cuts fractions off; the loop for the rest of a row
    rounds them.
    """
    hue = tf.cast(x[..., 0], tf.float32) * np.float32(6 / 180)
    saturation, value = (tf.cast(x[..., i], tf.float32) * np.float32(1 / 255) for i in (1, 2))
    whole = tf.floor(hue)
    part = hue - whole

    def faded(by: tf.Tensor) -> tf.Tensor:
        product = tf.cast(saturation, tf.float64) * tf.cast(by, tf.float64)
        return value * tf.cast(1.0 - product, tf.float32)

    levels = tf.stack([value, value * (1.0 - saturation), faded(part), faded(1.0 - part)], axis=-1)
    order = np.array(HSV_SECTORS)[:, ["BGR".index(channel) for channel in to]]
    chosen = tf.gather(tf.constant(order, tf.int32), tf.math.floormod(tf.cast(whole, tf.int32), 6))
    colour = tf.gather(levels, chosen, batch_dims=3) * 255.0
    column = tf.range(tf.shape(x)[2])[:, tf.newaxis]
    is_vector = column < tf.shape(x)[2] // HSV_LANES * HSV_LANES
    return tf.cast(tf.where(is_vector, tf.floor(colour), tf.round(colour)), tf.uint8)


def to_lab(x: tf.Tensor, given: str) -> tf.Tensor:
    """uint8 RGB or BGR [N, H, W, 3] as LAB, L scaled to 255, a and b around 128: RGB2Lab_b of OpenCV, from tables."""
    level = np.arange(256) / 255.0
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    gamma = tf.constant(np.rint(255 * 8 * linear), tf.int32)
    part = np.arange(3072, dtype=np.float32) * (np.float32(1) / np.float32(255 * 8))
    straight = part * np.float32(841 / 108) + np.float32(16 / 116)
    root = np.where(part < np.float32(216 / 24389), straight, np.cbrt(part))
    roots = tf.constant(np.rint(np.float32(1 << 15) * root), tf.int32)
    matrix = np.rint(LAB_MATRIX / LAB_WHITE * (1 << 12)).astype(np.int64).tolist()

    rgb = [tf.gather(gamma, tf.cast(x[..., given.index(channel)], tf.int32)) for channel in "RGB"]
    fx, fy, fz = (tf.gather(roots, _descale(sum(w * c for w, c in zip(row, rgb, strict=True)), 12)) for row in matrix)
    lightness = _descale((116 * 255 + 50) // 100 * fy - (16 * 255 * (1 << 15) + 50) // 100, 15)
    a = _descale(500 * (fx - fy) + (128 << 15), 15)
    b = _descale(200 * (fy - fz) + (128 << 15), 15)
    return tf.cast(tf.clip_by_value(tf.stack([lightness, a, b], axis=-1), 0, 255), tf.uint8)


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
    if x.dtype == tf.uint8:
        # Sums stay under 2²⁴ with half of the last place, so float32 holds them exactly; the cast cuts them off.
        weights, shift = GRAY_WEIGHTS[like]
        kernel = np.zeros((1, 1, len(given), 1), np.float32)
        for channel, weight in zip("RGB", weights, strict=True):
            kernel[0, 0, given.index(channel)] = weight / (1 << shift)
        # A convolution and its bias are one op to TensorFlow: half the time of a product, a sum and two reshapes.
        total = tf.nn.bias_add(tf.nn.conv2d(tf.cast(x, tf.float32), kernel, 1, "VALID"), [0.5])
        return tf.cast(total, tf.uint8)
    red, green, blue = (x[..., given.index(channel) : given.index(channel) + 1] for channel in "RGB")
    exact = [tf.cast(tf.constant(weight, tf.float32), tf.float64) for weight in (0.299, 0.587, 0.114)]
    total = tf.cast(green * tf.constant(0.587, tf.float32), tf.float64)
    for channel, weight in ((red, exact[0]), (blue, exact[2])):  # fused multiply-adds, in this order
        total = tf.cast(tf.cast(tf.cast(channel, tf.float64) * weight + total, tf.float32), tf.float64)
    return tf.cast(total, tf.float32)


def to_gray_of_decoders(image: tf.Tensor) -> tf.Tensor:
    """uint8 RGB [H, W, 3] as [H, W, 1], icvCvt_BGR2Gray of OpenCV: (1868·B + 9617·G + 4899·R + 2¹³) >> 14."""
    total = tf.reduce_sum(tf.cast(image, tf.int32) * tf.constant([4899, 9617, 1868], tf.int32), axis=2, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(total + (1 << 13), 14), tf.uint8)
