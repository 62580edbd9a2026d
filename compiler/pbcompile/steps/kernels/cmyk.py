"""JPEGs of four inks, which TensorFlow's decoder turns into RGB in its own, coarser way."""

from __future__ import annotations

import tensorflow as tf

START_OF_FRAME = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
START_OF_SCAN = 0xDA
ADOBE_MARKER = 0xEE
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""A segment that says: Adobe's inverted inks, as they are."""

RED_OF_CR, BLUE_OF_CB, GREEN_OF_CR, GREEN_OF_CB = 91881, 116130, -46802, -22554
"""1.402, 1.772, −0.71414, −0.34414 in 16-bit fixed point: build_ycc_rgb_table of libjpeg."""


def decode(contents: tf.Tensor, like: str) -> tf.Tensor:
    """uint8 RGB [H, W, 3] of a JPEG of four components, as OpenCV (`like` "opencv") or Pillow makes it.

    opencv: k − ((255 − c)·k >> 8), pillow: its rounded c·k / 255, of the light c, m, y, k that the inks leave.
    """
    inks = _inks(contents)
    colour, black = inks[..., :3], inks[..., 3:]
    if like == "opencv":
        return tf.cast(black - tf.bitwise.right_shift((255 - colour) * black, 8), tf.uint8)
    product = (255 - colour) * black + 128
    product = tf.bitwise.right_shift(tf.bitwise.right_shift(product, 8) + product, 8)
    return tf.cast(tf.clip_by_value(black - product, 0, 255), tf.uint8)


def _inks(contents: tf.Tensor) -> tf.Tensor:
    """int32 [H, W, 4]: how much light cyan, magenta, yellow and black let through, 255 for no ink.

    Both libraries take it that inks are stored inverted as Adobe does, also where no segment of Adobe says so.

    TensorFlow gives c·k // 255 of a file with Adobe's segment, (255 − c)·(255 − k) // 255 of one without.  So the file
    is decoded with k made 128, by a table of zeros for its coefficients, with and without that segment: then the two
    quotients are 128·c // 255 and 127·(255 − c) // 255, and the first plus 127 less the second is c.  So for k.
    """
    raw = tf.io.decode_raw(contents, tf.uint8)
    frame, scan, adobe = _segments(raw)
    is_adobe = adobe > 0
    tables = tf.cast(tf.gather(raw, frame + 12 + 3 * tf.range(4)), tf.int32)
    is_used = tf.reduce_any(tf.equal(tables[:3, tf.newaxis], tf.range(4)), 0)
    spare = tf.argmin(tf.cast(is_used, tf.int32), output_type=tf.int32)
    no_black = tf.concat([tables[:3], [spare]], 0)
    other = tf.math.floormod(tables[3] + 1, 4)
    only_black = tf.stack([other, other, other, tables[3]])

    renamed = tf.strings.join(
        [tf.strings.substr(contents, 0, adobe + 1), b"\xed", tf.strings.substr(contents, adobe + 2, -1)]
    )
    bare = tf.where(is_adobe, renamed, contents)

    def stored(tables: tf.Tensor, zero: tf.Tensor) -> tf.Tensor:
        with_adobe, without = (
            tf.cast(
                tf.raw_ops.DecodeJpeg(
                    contents=_with_tables(bare, frame, scan, tables, zero, extra),
                    channels=3,
                    dct_method="INTEGER_ACCURATE",
                ),
                tf.int32,
            )
            for extra in (ADOBE, b"")
        )
        return with_adobe + 127 - without

    colour, black = stored(no_black, spare), stored(only_black, other)[..., :1]
    transform = tf.cast(raw[adobe + 15], tf.int32)
    colour = tf.cond(is_adobe & tf.not_equal(transform, 0), lambda: _from_luma(colour), lambda: colour)
    return tf.concat([colour, black], axis=2)


def _segments(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where the frame header, the first scan and Adobe's segment start; 0 for none."""
    length = tf.size(raw)

    def goes_on(at: tf.Tensor, frame: tf.Tensor, adobe: tf.Tensor) -> tf.Tensor:
        del frame, adobe
        return (at + 3 < length) & tf.not_equal(tf.cast(raw[at + 1], tf.int32), START_OF_SCAN)

    def step(at: tf.Tensor, frame: tf.Tensor, adobe: tf.Tensor) -> list[tf.Tensor]:
        head = tf.cast(raw[at : at + 4], tf.int32)
        marker = head[1]
        is_fill = tf.equal(marker, 255)  # 0xFF may stand before a marker
        frame = tf.where(tf.reduce_any(tf.equal(marker, tf.constant(START_OF_FRAME))), at, frame)
        is_adobe = tf.equal(marker, ADOBE_MARKER) & (at + 16 < length)
        is_adobe &= tf.reduce_all(tf.equal(raw[at + 4 : at + 9], tf.constant([*b"Adobe"], tf.uint8)))
        return [tf.where(is_fill, at + 1, at + 2 + head[2] * 256 + head[3]), frame, tf.where(is_adobe, at, adobe)]

    at, frame, adobe = tf.while_loop(goes_on, step, [tf.constant(2), tf.constant(0), tf.constant(0)])
    return frame, at, adobe


def _with_tables(
    contents: tf.Tensor, frame: tf.Tensor, scan: tf.Tensor, tables: tf.Tensor, zero: tf.Tensor, extra: bytes
) -> tf.Tensor:
    """The file with the quantization tables `tables`, of which `zero` is made of zeros, and `extra` before its scan."""
    digit = tf.gather(tf.constant([bytes([i]) for i in range(4)]), tables)
    pieces = [tf.strings.substr(contents, 0, frame + 12)]
    for i in range(4):
        start = frame + 13 + 3 * i
        pieces += [digit[i], tf.strings.substr(contents, start, 2 if i < 3 else scan - start)]
    pieces += [b"\xff\xdb\x00\x43", tf.gather(tf.constant([bytes([i]) for i in range(4)]), zero), bytes(64), extra]
    return tf.strings.join([*pieces, tf.strings.substr(contents, scan, -1)])


def _from_luma(x: tf.Tensor) -> tf.Tensor:
    """ycck_cmyk_convert of libjpeg: int32 [H, W, 3] of Y, Cb, Cr as the light that cyan, magenta and yellow leave."""
    y, cb, cr = x[..., 0], x[..., 1] - 128, x[..., 2] - 128
    half = 1 << 15
    red = y + tf.bitwise.right_shift(RED_OF_CR * cr + half, 16)
    green = y + tf.bitwise.right_shift(GREEN_OF_CR * cr + GREEN_OF_CB * cb + half, 16)
    blue = y + tf.bitwise.right_shift(BLUE_OF_CB * cb + half, 16)
    return tf.clip_by_value(255 - tf.stack([red, green, blue], axis=-1), 0, 255)
