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
from tests.steps.image_files import bitmaps, chunk, exif_payload, gifs, jpegs, photo, pngs, with_segments

FILES = {
    f"{kind}: {name}": data
    for kind, files in (("JPEG", jpegs()), ("PNG", pngs()), ("BMP", bitmaps()), ("GIF", gifs()))
    for name, data in files.items()
}
UPRIGHT = jpegs()["quality 75, subsampling 2, baseline"]
EXIF = b"Exif\0\0"


@functools.cache
def decoder(channels: str, exif: str):
    return tf.function(lambda s: decode(s, channels, exif), input_signature=[tf.TensorSpec([], tf.string)])


def check(data: bytes, channels: str, exif: str) -> np.ndarray:
    have, want = decoder(channels, exif)(data).numpy(), reference(data, channels, exif)
    assert have.dtype == np.uint8
    np.testing.assert_array_equal(have, want)
    return have


@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("name", FILES)
def test_decode_gives_the_values_of_opencv(name: str, channels: str) -> None:
    check(FILES[name], channels, "apply")


@pytest.mark.parametrize("name", [name for name in FILES if "16 bit, 1" not in name])
def test_decode_gives_the_values_of_pillow(name: str) -> None:
    want = np.asarray(Image.open(io.BytesIO(FILES[name])).convert("RGB"))
    np.testing.assert_array_equal(decoder("RGB", "ignore")(FILES[name]).numpy()[0], want)


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
    if name in NEW_IN_OPENCV_5 and int(cv2.__version__.split(".")[0]) < 5:
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


def test_cmyk_has_the_values_of_pillow() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert("CMYK").save(buffer, "JPEG")
    want = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(decoder("RGB", "apply")(buffer.getvalue()).numpy()[0], want)
