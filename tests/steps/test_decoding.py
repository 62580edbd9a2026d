"""Decoding in the graph against cv2.imdecode: 0 differing values."""

from __future__ import annotations

import functools
import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pbcompile.reference.decoding import decode as reference
from pbcompile.steps.decoding import decode
from tests.steps.image_files import bitmaps, chunk, encoded, exif_payload, gifs, jpegs, photo, pngs, with_segments
from tests.steps.odd_files import (
    animated_png,
    cmyk_jpegs,
    gif,
    odd_bitmaps,
    odd_gifs,
    odd_jpegs,
    odd_pngs,
)

FILES = {
    f"{kind}: {name}": data
    for kind, makers in (
        ("JPEG", (jpegs, odd_jpegs, cmyk_jpegs)),
        ("PNG", (pngs, odd_pngs)),
        ("BMP", (bitmaps, odd_bitmaps)),
        ("GIF", (gifs, odd_gifs)),
    )
    for make in makers
    for name, data in make().items()
}
UPRIGHT = jpegs()["quality 75, subsampling 2, baseline"]
EXIF = b"Exif\0\0"


@functools.cache
def decoder(channels: str, exif: str, like: str = "opencv"):
    return tf.function(lambda s: decode(s, channels, exif, like), input_signature=[tf.TensorSpec([], tf.string)])


def check(data: bytes, channels: str, exif: str, like: str = "opencv") -> np.ndarray:
    have, want = decoder(channels, exif, like)(data).numpy(), reference(data, channels, exif, like)
    assert have.dtype == np.uint8
    np.testing.assert_array_equal(have, want)
    return have


OPENCV = tuple(int(number) for number in cv2.__version__.split(".")[:2])
IS_OPENCV_5 = OPENCV >= (5, 0)


@pytest.mark.parametrize("channels", ["RGB", "GRAY"])
@pytest.mark.parametrize("name", FILES)
def test_decode_gives_the_values_of_opencv(name: str, channels: str) -> None:
    if ("GIF" in name and OPENCV < (4, 12)) or ("without a mark" in name and not IS_OPENCV_5):
        pytest.skip("this OpenCV reads no GIF, or reads unmarked inks in another way")
    check(FILES[name], channels, "apply")


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("channels", ["RGB", "GRAY"])
@pytest.mark.parametrize("name", FILES)
def test_decode_gives_the_values_of_pillow(name: str, channels: str) -> None:
    check(FILES[name], channels, "ignore", "pillow")


@pytest.mark.parametrize("like", ["opencv", "pillow"])
def test_blue_first_is_the_same_turned_round(like: str) -> None:
    for name in ("JPEG: RGB inside", "PNG: RGBA", "BMP: 565", "GIF: comments"):
        check(FILES[name], "BGR", "apply", like)


@pytest.mark.parametrize("channels", ["RGB", "GRAY"])
def test_an_animation_is_its_first_frame(channels: str) -> None:
    check(animated_png(3), channels, "apply")
    check(animated_png(4), channels, "ignore", "pillow")


def test_a_frame_outside_of_its_canvas_is_treated_as_each_library_does() -> None:
    data = gif((4, 4, 11, 17))
    check(data, "RGB", "ignore", "pillow")
    with pytest.raises(ValueError, match="no image"):
        reference(data, "RGB")
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoder("RGB", "apply")(data)


def test_damaged_files_are_read_as_opencv_reads_them() -> None:
    """Bytes changed at random: what OpenCV still reads is the same, what it refuses is mostly refused."""
    rng = np.random.default_rng(0)
    read = 0
    for name in ("JPEG: restart markers", "JPEG: gray", "BMP: 24 bit"):
        for _ in range(25):
            data = np.frombuffer(FILES[name], np.uint8).copy()
            data[rng.integers(0, data.size, 2)] = rng.integers(0, 256, 2)
            want = cv2.imdecode(data, cv2.IMREAD_COLOR)
            try:
                have = decoder("BGR", "apply")(data.tobytes()).numpy()[0]
            except tf.errors.OpError:
                continue
            if want is not None:
                read += 1
                np.testing.assert_array_equal(have, want)
    assert read > 50


@pytest.mark.parametrize("name", ["JPEG: gray", "JPEG: restart markers", "PNG: RGB", "PNG: interlaced", "BMP: 24 bit"])
def test_files_that_are_cut_fail_as_opencv_refuses_them(name: str) -> None:
    for part in (0.3, 0.6, 0.95):
        data = FILES[name][: int(len(FILES[name]) * part)]
        with pytest.raises(ValueError, match="no image"):
            reference(data, "RGB")
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError)):
            decoder("RGB", "apply")(data)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_turns_the_image_as_opencv_does(orientation: int, byte_order: str) -> None:
    data = with_segments(UPRIGHT, (0xE1, EXIF + exif_payload(orientation, byte_order)))
    check(data, "RGB", "ignore")
    upright = check(data, "RGB", "apply")
    assert (upright.shape == check(UPRIGHT, "RGB", "apply").shape) == (orientation not in (5, 6, 7, 8))


EXIF_6 = EXIF + exif_payload(6)
DAMAGED = {
    "after other segments": [(0xE0, b"JFIF\0"), (0xE2, b"x" * 3000), (0xFE, b"comment"), (0xE1, EXIF_6)],
    "after XMP": [(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), (0xE1, EXIF_6)],
    "two": [(0xE1, EXIF + exif_payload(8)), (0xE1, EXIF_6)],
    "empty APP1": [(0xE1, b""), (0xE1, EXIF_6)],
    "cut in the entry": [(0xE1, EXIF_6[:-30])],
    "cut before the entry": [(0xE1, EXIF_6[:20])],
    "cut after the header": [(0xE1, EXIF_6[:14])],
    "only the name": [(0xE1, EXIF)],
    "text reaches outside": [(0xE1, EXIF_6[:-5])],
    "no TIFF mark": [(0xE1, EXIF_6.replace(b"II*", b"II+"))],
    "mixed byte order": [(0xE1, EXIF_6.replace(b"II*", b"IM*"))],
    "too many entries": [(0xE1, EXIF + exif_payload(6, entries=65535))],
    "no entries": [(0xE1, EXIF + exif_payload(6, entries=0))],
    "directory far away": [(0xE1, EXIF + b"II*\0\xff\xff\xff\xff" + exif_payload(6)[8:])],
    "exif text in another segment": [(0xE2, EXIF_6)],
    "orientation 65535": [(0xE1, EXIF + exif_payload(65535))],
}


NEW_IN_OPENCV_5 = ("after XMP", "empty APP1")
"""Older versions look at the very first APP1 only."""


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_exif_is_read_as_opencv_reads_it(name: str) -> None:
    if name in NEW_IN_OPENCV_5 and not IS_OPENCV_5:
        pytest.skip("this OpenCV looks at the first APP1 only")
    check(with_segments(UPRIGHT, *DAMAGED[name]), "RGB", "apply")


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_png_orientation_is_read_wherever_it_stands(before: bytes, orientation: int, byte_order: str) -> None:
    data = pngs()["RGB"]
    place = data.index(before) - 4
    check(data[:place] + chunk(b"eXIf", exif_payload(orientation, byte_order)) + data[place:], "RGB", "apply")


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    data = with_segments(UPRIGHT, (0xE1, EXIF_6))
    check(data[:2] + b"\xff\xff" + data[2:], "RGB", "apply")


@pytest.mark.parametrize(
    "data", [b"", b"B", b"BM", b"GIF89a", b"not an image at all", UPRIGHT[:200], b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_fails_when_fed(data: bytes) -> None:
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError)):
        decoder("RGB", "apply")(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_after_pillow_is_exif_transpose(orientation: int) -> None:
    data = with_segments(UPRIGHT, (0xE1, EXIF + exif_payload(orientation)))
    check(data, "RGB", "apply", "pillow")
    check(data, "GRAY", "ignore", "pillow")
    picture = Image.open(io.BytesIO(encoded(photo(), "PNG")))
    exif = Image.Exif()
    exif[274] = orientation
    check(encoded(picture, "PNG", exif=exif), "RGB", "apply", "pillow")
