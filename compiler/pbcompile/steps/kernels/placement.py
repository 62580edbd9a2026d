"""Moves as matrices and as ops: positions and whole masks taken back to the image that was fed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pbcompile.steps.kernels import resizing
from pbcompile.steps.kernels.sizes import Extent, is_fixed
from pbcompile.steps.placement import Move, Turn

Chain = Sequence[tuple[tuple[Extent, Extent], Move]]


def chain_of(steps: Sequence[Any], types: Sequence[Any], size: tuple[Extent, Extent]) -> tuple[Chain, Any]:
    """(size before, move) of each step that moves pixels, for an image of `size`, and the size after the last one.

    types: the type before each step.
    """
    moves = []
    for step, given in zip(steps, types, strict=True):
        move = step.move(size, given)
        if move is not None:
            moves.append((size, move))
            size = move.frame
    return tuple(moves), size


def matrix_of(chain: Chain) -> tf.Tensor:
    """float64 [3, 3]: (x, y, 1) after the chain to (x, y, 1) before it."""
    matrix = tf.constant(np.eye(3))
    for _, move in chain:
        matrix = matrix @ _back(move)
    return matrix


def _back(move: Move) -> tf.Tensor:
    (top, left, *part), size, place = move.part, move.size, move.place
    down, across = (_real(have) / _real(gave) for have, gave in zip(part, size, strict=True))
    framed = _rows(
        [across, 0.0, _real(left) - _real(place[1]) * across],
        [0.0, down, _real(top) - _real(place[0]) * down],
    )
    return framed @ turn_back(move.turn, move.frame)


def turn_back(turn: Turn, frame: tuple[Extent, Extent]) -> tf.Tensor:
    """float64 [3, 3]: (x, y, 1) in a turned image of size `frame` to the same place before the turn."""
    swap, rows, columns = (_real(flag) for flag in turn)
    height, width = (_real(side) for side in frame)
    keep = 1.0 - swap
    down, across = 1.0 - 2.0 * rows, 1.0 - 2.0 * columns  # ±1
    down_from, across_from = rows * height, columns * width
    return _rows(
        [keep * across, swap * down, keep * across_from + swap * down_from],
        [swap * across, keep * down, swap * across_from + keep * down_from],
    )


def exif_turn(orientation: tf.Tensor) -> Turn:
    """What the EXIF orientation 1 … 8 makes of a stored image."""

    def is_one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(orientation, tf.constant(values)))

    return orientation >= 5, is_one_of(3, 4, 7, 8), is_one_of(2, 3, 6, 7)


def _real(value: Any) -> Any:
    return tf.cast(value, tf.float64) if tf.is_tensor(value) else float(value)


def _rows(*rows: Sequence[Any]) -> tf.Tensor:
    whole = [*rows, [0.0, 0.0, 1.0]]
    if not any(tf.is_tensor(value) for row in whole for value in row):
        return tf.constant(np.array(whole, np.float64))
    return tf.stack([tf.stack([tf.convert_to_tensor(v, tf.float64) for v in row]) for row in whole])


def undo(mask: tf.Tensor, chain: Chain, method: str, like: str, fill: float) -> tf.Tensor:
    """[N, h, w, C] over the model's image → the size of the fed image, step by step backwards.

    A move that frames or cuts needs the mask at that move's own size; a mask of another one (a network that answers at
    a quarter of its input, say) is resized first.  Where the fed image has pixels that the model never saw: `fill`.
    """
    size: tuple[Extent, Extent] = (mask.shape[1] or tf.shape(mask)[1], mask.shape[2] or tf.shape(mask)[2])
    for before, move in reversed(chain):
        if any(move.turn):
            mask, size = _turned_back(mask, move.turn), (size[1], size[0]) if move.turn[0] else size
        elif move.is_whole:
            mask, size = _to(mask, size, before, method, like), before
        else:
            mask = _window(_to(mask, size, move.frame, method, like), move.frame, move.place, move.size, fill)
            top, left, height, width = move.part
            start, stop = (_whole(top), _whole(left)), (_whole(top + height), _whole(left + width))
            part = (stop[0] - start[0], stop[1] - start[1])
            mask = _window(_to(mask, move.size, part, method, like), part, (-start[0], -start[1]), before, fill)
            size = before
    return mask


def is_number(value: Any) -> bool:
    """Whether an extent is known while the graph is built."""
    return isinstance(value, (int, float))


def _whole(edge: Any) -> Any:
    """An edge that may lie between pixels, rounded half to even as Python does."""
    if is_number(edge):
        return round(edge)
    return edge if edge.dtype == tf.int32 else tf.cast(tf.round(edge), tf.int32)


def _to(mask: tf.Tensor, size: Sequence[Extent], target: Sequence[Extent], method: str, like: str) -> tf.Tensor:
    if is_fixed(*size, *target) and tuple(size) == tuple(target):
        return mask
    resized = resizing.resize(mask, size, target, method, like)
    resized.set_shape([mask.shape[0], *(n if is_fixed(n) else None for n in target), mask.shape[3]])
    return resized


def _window(
    mask: tf.Tensor, size: Sequence[Extent], start: Sequence[Extent], target: Sequence[Extent], fill: float
) -> tf.Tensor:
    """Rows start … start + target of the mask, `fill` where it has none."""
    ranges, borders = [], []
    for side, first, length in zip(size, start, target, strict=True):
        if is_fixed(side, first, length):
            low, high = min(max(first, 0), side), min(max(first + length, 0), side)
            borders.append((max(-first, 0), max(first + length - side, 0)))
        else:
            low = tf.clip_by_value(first, 0, side)
            high = tf.clip_by_value(first + length, 0, side)
            borders.append((tf.maximum(-first, 0), tf.maximum(first + length - side, 0)))
        ranges.append((low, high - low))
    (top, height), (left, width) = ranges
    count, channels = mask.shape[0], mask.shape[3]
    mask = tf.slice(mask, tf.stack([0, top, left, 0]), tf.stack([-1, height, width, -1]))
    paddings = tf.stack([tf.stack([tf.constant(0), 0]), *(tf.stack(list(b)) for b in borders), tf.stack([0, 0])])
    padded = tf.pad(mask, paddings, constant_values=tf.constant(fill, mask.dtype))
    padded.set_shape([count, *(n if is_fixed(n) else None for n in target), channels])
    return padded


def _turned_back(mask: tf.Tensor, turn: Turn) -> tf.Tensor:
    swap, rows, columns = turn
    axes = [axis for axis, flag in ((1, rows), (2, columns)) if flag]
    mask = tf.reverse(mask, axes) if axes else mask
    return tf.transpose(mask, [0, 2, 1, 3]) if swap else mask
