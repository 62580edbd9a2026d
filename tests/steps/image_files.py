"""Image files of many kinds, made in memory."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from tests.steps.differential import picture


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height: int = 47, width: int = 63, channels: int = 3, seed: int = 0) -> np.ndarray:
    pixels = picture("photo", (1, height, width, channels), seed=seed)[0]
    grain = np.random.default_rng(seed).integers(-12, 13, pixels.shape)
    return np.squeeze(np.clip(pixels.astype(int) + grain, 0, 255).astype(np.uint8))


def jpegs() -> dict[str, bytes]:
    files = {
        f"quality {quality}, subsampling {subsampling}, {'progressive' if progressive else 'baseline'}": encoded(
            photo(), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive
        )
        for quality, subsampling, progressive in [
            (30, 0, False),
            (75, 1, False),
            (75, 2, False),
            (95, 2, True),
            (75, 0, True),
            (95, 1, True),
            (100, 0, False),
        ]
    }
    files["gray"] = encoded(photo(channels=1), "JPEG")
    files["restart markers"] = encoded(photo(), "JPEG", restart_marker_blocks=3)
    files["RGB inside"] = encoded(photo(), "JPEG", keep_rgb=True)
    files["optimized tables, comment"] = encoded(photo(), "JPEG", optimize=True, comment="a comment")
    files["one pixel"] = encoded(photo(2, 2)[:1, :1], "JPEG")
    files["odd and thin"] = encoded(photo(3, 101), "JPEG")
    return files


def pngs() -> dict[str, bytes]:
    colour = Image.fromarray(photo())
    files = {
        "RGB": encoded(colour, "PNG"),
        "gray": encoded(colour.convert("L"), "PNG"),
        "1 bit": encoded(colour.convert("1"), "PNG"),
        "palette": encoded(colour.convert("P"), "PNG"),
        "palette, 2 bit": encoded(colour.quantize(4), "PNG", bits=2),
        "palette, 4 bit": encoded(colour.quantize(16), "PNG", bits=4),
        "palette, transparent": encoded(colour.convert("P"), "PNG", transparency=3),
        "gray, transparent": encoded(colour.convert("L"), "PNG", transparency=100),
        "RGBA": encoded(photo(channels=4), "PNG"),
        "gray and alpha": encoded(photo(channels=2), "PNG"),
    }
    rng = np.random.default_rng(0)
    for channels in (1, 3, 4):
        deep = rng.integers(0, 65536, (21, 34, channels)).astype(np.uint16)
        files[f"16 bit, {channels} channels"] = cv2.imencode(".png", deep)[1].tobytes()
    files["interlaced"] = interlaced_png(photo(21, 34))
    return files


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def interlaced_png(pixels: np.ndarray) -> bytes:
    """Adam7, which Pillow and OpenCV read and do not write."""
    height, width = pixels.shape[:2]
    rows = b""
    for top, left, down, across in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        for row in pixels[top::down, left::across]:
            if row.size:
                rows += b"\0" + row.tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bitmaps() -> dict[str, bytes]:
    colour = Image.fromarray(photo())
    files = {
        "24 bit": encoded(colour, "BMP"),
        "gray": encoded(colour.convert("L"), "BMP"),
        "palette": encoded(colour.convert("P"), "BMP"),
        "1 bit": encoded(colour.convert("1"), "BMP"),
        "32 bit": encoded(photo(channels=4), "BMP"),
        "4 bit": four_bit_bitmap(),
    }
    upside = bytearray(files["24 bit"])
    struct.pack_into("<i", upside, 22, -47)
    files["top row first"] = bytes(upside)
    return files


def four_bit_bitmap() -> bytes:
    width, height, stride = 13, 7, 8
    pixels = np.random.default_rng(1).integers(0, 256, stride * height).astype(np.uint8).tobytes()
    palette = bytes(range(64))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 4, 0, len(pixels), 2835, 2835, 16, 16)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def gifs() -> dict[str, bytes]:
    frames = [Image.fromarray(photo(seed=seed)).convert("P") for seed in range(3)]
    return {
        "one frame": encoded(frames[0], "GIF"),
        "three frames": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }


def exif_payload(orientation: int, byte_order: str = "<", extra: bytes = b"", entries: int | None = None) -> bytes:
    """A TIFF directory with a maker's name and the orientation."""
    maker = b"Maker of cameras\0"
    fields = [
        struct.pack(byte_order + "HHII", 271, 2, len(maker), 8 + 2 + 24 + 4),
        struct.pack(byte_order + "HHIHH", 274, 3, 1, orientation, 0),
    ]
    head = (b"II*\0" if byte_order == "<" else b"MM\0*") + struct.pack(byte_order + "I", 8)
    count = struct.pack(byte_order + "H", len(fields) if entries is None else entries)
    return head + count + b"".join(fields) + b"\0\0\0\0" + maker + extra


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """`jpeg` with (marker, payload) segments right after its start."""
    blocks = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return jpeg[:2] + blocks + jpeg[2:]
