"""Which way up a photo is: the orientation tag of a JPEG, read from its bytes without loops."""

from __future__ import annotations

import tensorflow as tf

SEGMENTS = 16
"""How many segments of a JPEG are looked through for the first APP1.  Exif wants it to be the first or second one."""

ORIENTATION = 274
TEXTS = (270, 271, 272, 305, 306, 33432)
"""Tags whose text OpenCV reads; one that reaches out of the segment ends its reading of the directory."""
RATIONALS = {282: 1, 283: 1, 318: 2, 319: 6, 529: 3, 532: 6}
"""Tags whose fractions OpenCV reads, and how many of them."""


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """1 … 8 (int32 scalar) as OpenCV finds it in a JPEG's first Exif segment or in a PNG's eXIf chunk; 1 where there is
    none.

    OpenCV 5 looks at APP1 segments that start with "Exif", older versions only at the very first APP1, whatever it is.
    """
    raw = tf.io.decode_raw(contents, tf.uint8)
    length = tf.size(raw)
    raw = tf.concat([raw, tf.zeros([10], tf.uint8)], 0)
    is_png = tf.equal(tf.strings.substr(contents, 0, 4), b"\x89PNG")
    place = tf.cond(is_png, lambda: _png_chunk(raw), lambda: _jpeg_segment(raw, length))
    base, size = place[0], place[1]

    def numbers(at: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Numbers whose bytes start at `at`, each byte times its weight; bytes after the end are 0."""
        index = tf.minimum(tf.expand_dims(at, -1) + tf.range(tf.size(weights)), length)
        return tf.reduce_sum(tf.cast(tf.gather(raw, index), tf.int32) * weights, axis=-1)

    order = numbers(base, tf.constant([256, 1]))
    is_little = tf.equal(order, 0x4949)
    two = tf.where(is_little, tf.constant([1, 256]), tf.constant([256, 1]))
    # Sizes are small, so a number that wraps around to less than 0 is as far outside as it was.
    four = tf.where(is_little, tf.constant([1, 1 << 8, 1 << 16, 1 << 24]), tf.constant([1 << 24, 1 << 16, 1 << 8, 1]))

    def short(offset: tf.Tensor) -> tf.Tensor:
        return numbers(base + offset, two)

    def long(offset: tf.Tensor) -> tf.Tensor:
        number = numbers(base + offset, four)
        return tf.where(tf.less(number, 0) | tf.greater(number, 1 << 24), tf.fill(tf.shape(number), 1 << 24), number)

    directory = long(tf.constant(4))
    is_tiff = (size >= 8) & tf.equal(short(tf.constant(2)), 42) & (directory + 1 < size)
    fitting = tf.maximum(0, size - directory - 2) // 12 + 1
    count = tf.where(is_tiff, tf.minimum(short(directory), fitting), 0)
    entry = directory + 2 + 12 * tf.range(count)

    tag = short(entry)
    amount, place = long(entry + 4), long(entry + 8)
    is_text = tf.reduce_any(tf.equal(tf.expand_dims(tag, -1), tf.constant(TEXTS)), -1)
    text_end = tf.where(amount > 4, place, tf.fill(tf.shape(place), 8)) + amount
    matches = tf.equal(tf.expand_dims(tag, -1), tf.constant(list(RATIONALS)))
    fractions = tf.reduce_sum(tf.cast(matches, tf.int32) * tf.constant(list(RATIONALS.values())), -1)
    needs = tf.where(is_text, text_end, tf.where(fractions > 0, place + 8 * fractions, tf.zeros_like(place)))
    is_broken = (entry + 2 > size) | (needs > size) | ((is_text | (fractions > 0)) & (entry + 12 > size))
    is_broken |= tf.equal(tag, ORIENTATION) & (entry + 10 > size)
    is_reached = tf.equal(tf.cumsum(tf.cast(is_broken, tf.int32)), 0)
    found = tf.boolean_mask(short(entry + 8), is_reached & tf.equal(tag, ORIENTATION))
    value = tf.concat([found, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _jpeg_segment(raw: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Start and size of the TIFF data in the first APP1 that starts with "Exif\\0\\0"; size 0 where there is none."""
    wanted = tf.constant([0xFF, 0xE1, *b"Exif\0\0"], tf.uint8)
    at = tf.constant(2)
    for _ in range(SEGMENTS):
        head = raw[at : at + 10]
        is_exif = tf.reduce_all(tf.equal(tf.gather(head, [0, 1, 4, 5, 6, 7, 8, 9]), wanted))
        number = tf.cast(head, tf.int32)
        is_over = tf.not_equal(number[0], 255) | tf.equal(number[1], 0xDA) | is_exif
        step = tf.where(tf.equal(number[1], 255), 1, 2 + number[2] * 256 + number[3])  # 0xFF may stand before a marker
        at = tf.minimum(tf.where(is_over, at, at + step), length)
    head = tf.cast(raw[at : at + 10], tf.int32)
    is_exif = tf.reduce_all(tf.equal(tf.gather(head, [0, 1, 4, 5, 6, 7, 8, 9]), tf.cast(wanted, tf.int32)))
    return tf.stack([at + 10, tf.where(is_exif, head[2] * 256 + head[3] - 8, 0)])


def _png_chunk(raw: tf.Tensor) -> tf.Tensor:
    """Start and size of the TIFF data in the eXIf chunk, which may stand behind thousands of others; size 0 for none.

    Found by its name and the byte order mark after it: eight bytes that compressed data will not show by chance.
    """
    shifted = [raw[i : tf.size(raw) - 9 + i] for i in range(9)]
    is_name = (
        tf.equal(shifted[0], ord("e"))
        & tf.equal(shifted[1], ord("X"))
        & tf.equal(shifted[2], ord("I"))
        & tf.equal(shifted[3], ord("f"))
    )
    little = tf.equal(shifted[4], ord("I")) & tf.equal(shifted[5], ord("I")) & tf.equal(shifted[6], 42)
    big = tf.equal(shifted[4], ord("M")) & tf.equal(shifted[5], ord("M")) & tf.equal(shifted[7], 42)
    places = tf.cast(tf.where(is_name & (little | big))[:, 0], tf.int32)
    at = tf.concat([places, [0]], 0)[0]
    size = tf.reduce_sum(tf.cast(raw[tf.maximum(at - 4, 0) :][:4], tf.int32) * tf.constant([0, 1 << 16, 1 << 8, 1]))
    return tf.stack([at + 4, tf.where(at > 0, size, 0)])


def turn_upright(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """[1, H, W, C] as `turn` 1 … 8 wants it shown.

    One Transpose and one StridedSlice with fed steps of ±1: both pass an upright image on without a copy.
    """
    swaps = tf.cast(turn >= 5, tf.int32)
    perm = tf.stack([0, 1 + swaps, 2 - swaps, 3])
    flips_rows = tf.reduce_any(tf.equal(turn, [3, 4, 7, 8]))
    flips_columns = tf.reduce_any(tf.equal(turn, [2, 3, 6, 7]))
    steps = tf.stack([1, tf.where(flips_rows, -1, 1), tf.where(flips_columns, -1, 1), 1])
    shape = image.shape
    image = tf.transpose(image, perm)
    image = tf.strided_slice(image, [0, 0, 0, 0], [0, 0, 0, 0], steps, begin_mask=15, end_mask=15)
    image.set_shape([shape[0], None, None, shape[3]])
    return image
