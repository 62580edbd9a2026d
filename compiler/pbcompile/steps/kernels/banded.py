"""Integer weighted sums of uint8 as float32 matrix products: exact, and faster than a loop over taps."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import tensorflow as tf

EXACT = 1 << 24
"""float32 holds every integer up to here, so sums that stay below are exact in whatever order they are made."""

BLOCK = 16
"""How many samples of the result share one product, which spans all sources that any of them needs."""

MOST_TAPS = 512
"""Above, weights of 22 bits would need more than two parts: 512 · 2⁷ · 256 = 2²⁴, and 1.35 · 2¹⁵ · 255 < 2²⁴."""


def most_taps(matrix: npt.NDArray[np.int64]) -> int:
    """How many sources the sample with the most of them has."""
    return int((matrix != 0).sum(axis=1).max())


def digits(taps: int, bits: int) -> int:
    """How many low bits of `bits`-bit weights one part can take so that a sum over `taps` samples stays exact."""
    return min(bits // 2, int(math.log2(EXACT / 256 / taps)))


def dense(
    places: npt.NDArray[np.int64], weights: npt.NDArray[np.int32], size: int, target: int
) -> npt.NDArray[np.int64]:
    """The matrix [target, size] of (result, source) pairs and their weights."""
    matrix = np.zeros((target, size), np.int64)
    matrix[places[:, 0], places[:, 1]] = weights
    return matrix


def _blocks(matrix: npt.NDArray[np.int64]) -> list[tuple[int, int, npt.NDArray[np.int64]]]:
    """(first source, last source + 1, part of the matrix) of each BLOCK of rows."""
    blocks = []
    for start in range(0, len(matrix), BLOCK):
        part = matrix[start : start + BLOCK]
        used = np.flatnonzero(part.any(axis=0))
        first, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
        blocks.append((first, stop, part[:, first:stop]))
    return blocks


def _parts(part: npt.NDArray[np.int64], low_bits: int) -> npt.NDArray[np.float32]:
    """[2, rows, columns]: the high digits, and the low ones, which are never negative."""
    high = part >> low_bits
    return np.stack([high, part - (high << low_bits)]).astype(np.float32)


def _rounded(high: tf.Tensor, low: tf.Tensor, low_bits: int, bits: int) -> tf.Tensor:
    """uint8 (high · 2^low_bits + low + 2^(bits − 1)) >> bits, clipped, without a number of 2²⁴ or more."""
    carry = tf.floor(low * (1.0 / (1 << low_bits)))
    total = high + carry + float(1 << (bits - 1 - low_bits))
    return tf.cast(tf.clip_by_value(tf.floor(total * (1.0 / (1 << (bits - low_bits)))), 0.0, 255.0), tf.uint8)


def weigh_width(x: tf.Tensor, matrix: npt.NDArray[np.int64], bits: int) -> tf.Tensor:
    """uint8 [N, H, W, C] to [N, H, w, C]: integer weights [w, W] in 1/2^bits along the width, rounded and clipped.

    A row is W · C numbers side by side; the products have one matrix for the pixels and the identity for the channels.
    """
    channels = x.shape[3]
    low_bits = digits(most_taps(matrix), bits)
    shape = tf.shape(x)
    lines = tf.reshape(x, tf.stack([shape[0] * shape[1], matrix.shape[1] * channels]))
    high, low = [], []
    for first, stop, part in _blocks(matrix):
        window = tf.cast(lines[:, first * channels : stop * channels], tf.float32)
        pair = [np.kron(digit.T, np.eye(channels, dtype=np.float32)) for digit in _parts(part, low_bits)]
        both = tf.matmul(window, np.concatenate(pair, axis=1))
        width = len(part) * channels
        high.append(both[:, :width])
        low.append(both[:, width:])
    level = _rounded(tf.concat(high, 1), tf.concat(low, 1), low_bits, bits)
    result = tf.reshape(level, tf.stack([shape[0], shape[1], len(matrix), channels]))
    result.set_shape([x.shape[0], x.shape[1], len(matrix), channels])
    return result


def weigh_height(x: tf.Tensor, matrix: npt.NDArray[np.int64], bits: int) -> tf.Tensor:
    """uint8 [N, H, W, C] to [N, h, W, C]: integer weights [h, H] in 1/2^bits along the height, rounded and clipped."""
    low_bits = digits(most_taps(matrix), bits)
    shape = tf.shape(x)
    lines = tf.reshape(x, tf.stack([shape[0], matrix.shape[1], shape[2] * shape[3]]))
    high, low = [], []
    for first, stop, part in _blocks(matrix):
        window = tf.cast(lines[:, first:stop], tf.float32)
        both = tf.matmul(tf.constant(np.concatenate(_parts(part, low_bits))[np.newaxis]), window)
        high.append(both[:, : len(part)])
        low.append(both[:, len(part) :])
    level = _rounded(tf.concat(high, 1), tf.concat(low, 1), low_bits, bits)
    result = tf.reshape(level, tf.stack([shape[0], len(matrix), shape[2], shape[3]]))
    result.set_shape([x.shape[0], len(matrix), x.shape[2], x.shape[3]])
    return result
