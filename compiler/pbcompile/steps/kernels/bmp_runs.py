"""Run-length code of bitmaps, read without a loop over its commands."""

from __future__ import annotations

import tensorflow as tf

LINE_END, IMAGE_END, JUMP = 0, 1, 2
"""What a command whose first byte is 0 means by its second byte; 3 and more are that many pixels one by one."""


def decode(data: tf.Tensor, height: tf.Tensor, width: tf.Tensor, is_four: tf.Tensor) -> tf.Tensor:
    """int32 [height, width] of numbers of colours, the bottom row first; 0 where the code says nothing.

    data: uint8 from the first command on: RLE8, or RLE4 where `is_four`.

    A command is two bytes, and what follows it is padded to two, so all start at even places.  Which places are
    commands is found by following all pointers at once, in steps of 1, 2, 4, …; where they draw, by running sums.
    """
    words = tf.reshape(data[: tf.size(data) // 2 * 2], [-1, 2])
    first, second = tf.unstack(tf.cast(words, tf.int32), axis=1)
    is_escape = tf.equal(first, 0)
    is_literal = is_escape & (second > JUMP)
    literal_bytes = tf.where(is_four, (second + 1) // 2, second)
    follow = tf.where(is_literal, (literal_bytes + 1) // 2, tf.where(is_escape & tf.equal(second, JUMP), 1, 0))
    command = _reached(1 + follow, is_escape & tf.equal(second, IMAGE_END))
    first, second, is_escape, is_literal = (tf.gather(t, command) for t in (first, second, is_escape, is_literal))

    jump = tf.cast(tf.gather(tf.pad(words, [[0, 1], [0, 0]]), command + 1), tf.int32)
    jump = tf.where((is_escape & tf.equal(second, JUMP))[:, tf.newaxis], jump, tf.zeros_like(jump))
    count = tf.where(is_escape, tf.where(is_literal, second, tf.zeros_like(second)), first)
    is_line_end = tf.cast(is_escape & tf.equal(second, LINE_END), tf.int32)
    line = tf.cumsum(is_line_end, exclusive=True)
    along = tf.cumsum(count + jump[:, 0], exclusive=True)
    column = along - tf.gather(tf.math.segment_min(along, line), line)
    row = line + tf.cumsum(jump[:, 1], exclusive=True)

    owner = tf.repeat(tf.range(tf.size(count)), count)
    place = tf.range(tf.size(owner)) - tf.gather(tf.cumsum(count, exclusive=True), owner)
    literal = tf.gather(is_literal, owner)
    at = 2 * tf.gather(command, owner) + 2 + tf.where(is_four, place // 2, place)
    value = tf.where(
        literal, tf.cast(tf.gather(data, tf.minimum(at, tf.size(data) - 1)), tf.int32), tf.gather(second, owner)
    )
    half = tf.where(tf.equal(place % 2, 0), value // 16, value % 16)
    value = tf.where(is_four, half, value)

    x, y = tf.gather(column, owner) + place, tf.gather(row, owner)
    is_inside = (x < width) & (y < height)
    index = tf.boolean_mask(y * width + x, is_inside)
    flat = tf.zeros(tf.reshape(height * width, [1]), tf.int32)
    flat = tf.tensor_scatter_nd_update(flat, index[:, tf.newaxis], tf.boolean_mask(value, is_inside))
    return tf.reshape(flat, tf.stack([height, width]))


def _reached(step: tf.Tensor, is_last: tf.Tensor) -> tf.Tensor:
    """int32 indices, ascending, that are reached from 0 by going `step` further each time, until one `is_last`."""
    count = tf.size(step)
    end = tf.minimum(tf.range(count) + step, count)
    target = tf.concat([tf.where(is_last, tf.range(count), end), [count]], 0)

    def goes_on(target: tf.Tensor, seen: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
        del target, seen
        return reach <= count

    def double(target: tf.Tensor, seen: tf.Tensor, reach: tf.Tensor) -> list[tf.Tensor]:
        arrived = tf.math.unsorted_segment_max(seen, target, count + 1)
        return [tf.gather(target, target), tf.maximum(seen, arrived), 2 * reach]

    _, seen, _ = tf.while_loop(goes_on, double, [target, tf.one_hot(0, count + 1, dtype=tf.int32), tf.constant(1)])
    return tf.cast(tf.where(seen[:count] > 0)[:, 0], tf.int32)
