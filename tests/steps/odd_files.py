"""Image files that no library writes: every depth, header, palette and canvas, from the formats' own descriptions."""

from __future__ import annotations

import itertools
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from tests.steps.image_files import chunk, encoded, photo

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def packed(samples: np.ndarray, depth: int) -> np.ndarray:
    """uint8 rows of integers [h, n] in `depth` bits each, high bits first."""
    if depth == 16:
        return samples.astype(">u2").view(np.uint8).reshape(len(samples), -1)
    if depth == 8:
        return samples.astype(np.uint8)
    bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)


def png(
    size: tuple[int, int],
    colour: int,
    depth: int,
    *,
    interlaced: bool = False,
    transparency: bytes | None = None,
    extra: bytes = b"",
) -> bytes:
    rng = np.random.default_rng([*size, colour, depth])
    x = rng.integers(0, 1 << depth, (*size, PNG_CHANNELS[colour]))

    def rows(part: np.ndarray) -> bytes:
        return (
            b"".join(b"\0" + row.tobytes() for row in packed(part.reshape(len(part), -1), depth)) if part.size else b""
        )

    data = b"".join(rows(x[a::c, b::d]) for a, b, c, d in ADAM7) if interlaced else rows(x)
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, int(interlaced))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
    if colour == 3:
        out += chunk(b"PLTE", rng.integers(0, 256, 3 << depth).astype(np.uint8).tobytes())
    if transparency is not None:
        out += chunk(b"tRNS", transparency)
    return out + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def odd_pngs() -> dict[str, bytes]:
    files = {}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour, interlaced in itertools.product(depths, (False, True)):
        for depth in depths[colour]:
            for size in ((21, 34), (1, 1), (5, 3)):
                name = f"colour {colour}, {depth} bit{', interlaced' * interlaced}, {size[0]}x{size[1]}"
                files[name] = png(size, colour, depth, interlaced=interlaced)
    for depth in depths[3]:
        files[f"palette, {depth} bit, alpha"] = png((9, 14), 3, depth, transparency=bytes(range(1 << min(depth, 7))))
        files[f"gray, {depth} bit, one transparent"] = png((9, 14), 0, depth, transparency=struct.pack(">H", 1))
    files["RGB, one transparent"] = png((9, 14), 2, 8, transparency=struct.pack(">HHH", 3, 4, 5))
    files["gamma"] = png((9, 14), 2, 8, extra=chunk(b"gAMA", struct.pack(">I", 100000)))
    files["sRGB"] = png((9, 14), 6, 8, extra=chunk(b"sRGB", b"\0"))
    files["background"] = png((9, 14), 6, 16, extra=chunk(b"bKGD", struct.pack(">HHH", 1000, 20000, 30)))
    files["significant bits"] = png((9, 14), 2, 8, extra=chunk(b"sBIT", b"\5\6\5"))
    return files


def animated_png(channels: int) -> bytes:
    frames = [Image.fromarray(photo(21, 34, channels, seed=seed)) for seed in range(2)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


SUBSAMPLINGS = [
    name for name in ("411", "420", "422", "440", "444") if hasattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}")
]


def odd_jpegs() -> dict[str, bytes]:
    files = {}
    for name, size in itertools.product(SUBSAMPLINGS, ((47, 63), (1, 1), (7, 5), (17, 33))):
        pixels = photo(max(size[0], 2), max(size[1], 2))[: size[0], : size[1]]
        factor = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}")]
        for kind, flag in (("progressive", cv2.IMWRITE_JPEG_PROGRESSIVE), ("restarts", cv2.IMWRITE_JPEG_RST_INTERVAL)):
            data = cv2.imencode(".jpg", pixels, [*factor, flag, 1])[1].tobytes()
            files[f"subsampled {name}, {kind}, {size[0]}x{size[1]}"] = data
    return files


def cmyk_jpegs() -> dict[str, bytes]:
    """Four inks, as Adobe marks them, unmarked, and with three of them as luma and chroma."""
    files = {}
    inks = np.asarray(Image.fromarray(photo()).convert("CMYK")).copy()
    inks[..., 3] = photo(channels=1) // 2
    for subsampling, progressive in ((0, False), (1, True), (2, False)):
        data = encoded(Image.fromarray(inks, "CMYK"), "JPEG", subsampling=subsampling, progressive=progressive)
        at = data.index(b"Adobe")
        name = f"subsampling {subsampling}{', progressive' * progressive}"
        files[f"CMYK, {name}"] = data
        files[f"YCCK, {name}"] = data[: at + 11] + b"\2" + data[at + 12 :]
        files[f"CMYK without a mark, {name}"] = data[: at - 3] + b"\xed" + data[at - 2 :]
        files[f"CMYK behind a profile, {name}"] = data[:2] + b"\xff\xe2\x40\0" + bytes(0x3FFE) + data[2:]
    return files


def bitmap(
    bits: int,
    size: tuple[int, int] = (7, 13),
    header: int = 40,
    *,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    data: bytes | None = None,
    is_top_first: bool = False,
    gap: int = 0,
) -> bytes:
    rng = np.random.default_rng([bits, *size, header])
    height, width = size
    if data is None:
        data = rng.integers(0, 256, (width * bits + 31) // 32 * 4 * height).astype(np.uint8).tobytes()
    palette = rng.integers(0, 256, ((1 << bits) if bits <= 8 else 0, 3 if header == 12 else 4)).astype(np.uint8)
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        fields = (header, width, -height if is_top_first else height, 1, bits, compression, len(data), 2835, 2835, 0, 0)
        head = struct.pack("<IiiHHIIiiII", *fields)
        words = struct.pack(f"<{len(masks)}I", *masks)
        head += words if header == 40 else words.ljust(header - 40, b"\0")
    start = 14 + len(head) + palette.size + gap
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette.tobytes() + bytes(gap) + data


def runs(size: tuple[int, int], bits: int, seed: int, is_wild: bool) -> bytes:
    """Run-length code; where `is_wild`, with jumps and lines that end early."""
    rng, out = np.random.default_rng(seed), bytearray()
    for _ in range(size[0]):
        x = 0
        while x < size[1]:
            rest, kind = size[1] - x, rng.integers(0, 4)
            if kind == 0 and rest >= 3:
                count = int(rng.integers(3, min(rest, 20) + 1))
                length = count if bits == 8 else (count + 1) // 2
                out += bytes([0, count, *rng.integers(0, 256, length).tolist()]) + bytes(length % 2)
            elif kind == 1 and is_wild and rest > 3:
                count = int(rng.integers(0, rest))
                out += bytes([0, 2, count, 0])
            else:
                count = int(rng.integers(1, min(rest, 30) + 1))
                out += bytes([count, int(rng.integers(0, 256))])
            x += count
            if is_wild and rng.random() < 0.1:
                break
        out += b"\0\0"
    return bytes(out) + b"\0\1"


RGB_MASKS = {
    "BGRA": (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    "RGBA": (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    "ABGR": (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
}


def odd_bitmaps() -> dict[str, bytes]:
    files = {}
    for bits, header in itertools.product((1, 4, 8, 16, 24, 32), (12, 40, 52, 56, 64, 108, 124)):
        if (bits, header) != (16, 12):  # refused by OpenCV
            files[f"{bits} bit, header of {header}"] = bitmap(bits, header=header)
            if header > 12:
                files[f"{bits} bit, header of {header}, top first"] = bitmap(bits, header=header, is_top_first=True)
    for name, masks in RGB_MASKS.items():
        for header in (56, 108, 124):
            files[f"{name} in a header of {header}"] = bitmap(32, header=header, compression=3, masks=masks)
    files["565"] = bitmap(16, compression=3, masks=(0xF800, 0x7E0, 0x1F))
    files["555"] = bitmap(16, compression=3, masks=(0x7C00, 0x3E0, 0x1F))
    files["masks in a short header"] = bitmap(32, compression=3, masks=RGB_MASKS["BGRA"][:3])
    files["gap behind the palette"] = bitmap(8, gap=8)
    for bits, seed, is_wild in itertools.product((8, 4), range(4), (False, True)):
        for size in ((7, 13), (9, 64)):
            data = runs(size, bits, seed, is_wild)
            name = f"runs of {bits} bit, {seed}{', wild' * is_wild}, {size[0]}x{size[1]}"
            files[name] = bitmap(bits, size, compression=1 if bits == 8 else 2, data=data)
    return files


def codes(pixels: np.ndarray, bits: int) -> bytes:
    """LZW of a GIF without a dictionary: the table is cleared before it grows into longer codes."""
    least = max(2, bits)
    clear, total, length = 1 << least, 0, 0
    for number, value in enumerate([*pixels.reshape(-1).tolist(), (1 << least) + 1]):
        if number % (clear - 2) == 0:
            total |= clear << length
            length += least + 1
        total |= value << length
        length += least + 1
    data = total.to_bytes((length + 7) // 8, "little")
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return bytes([least]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif(
    frame: tuple[int, int, int, int],
    bits: int = 3,
    *,
    background: int = 0,
    transparent: int | None = None,
    has_global: bool = True,
    has_local: bool = False,
    interlaced: bool = False,
    frames: int = 1,
    comment: bytes = b"",
) -> bytes:
    """A canvas of 11×17 with frames at (top, left, height, width)."""
    rng, count = np.random.default_rng([*frame, bits]), 1 << bits
    top, left, height, width = frame
    out = b"GIF89a" + struct.pack("<HHBBB", 17, 11, has_global << 7 | (bits - 1) << 4 | (bits - 1), background, 0)
    out += rng.integers(0, 256, 3 * count * has_global).astype(np.uint8).tobytes()
    for block in (comment[i : i + 255] for i in range(0, len(comment), 255)):
        out += b"\x21\xfe" + bytes([len(block)]) + block + b"\0"
    for _ in range(frames):
        if transparent is not None:
            out += b"\x21\xf9\x04" + struct.pack("<BHBB", 1, 0, transparent, 0)
        out += b"," + struct.pack("<HHHHB", left, top, width, height, has_local << 7 | interlaced << 6 | (bits - 1))
        out += rng.integers(0, 256, 3 * count * has_local).astype(np.uint8).tobytes()
        out += codes(rng.integers(0, count, (height, width)), bits)
    return out + b";"


def odd_gifs() -> dict[str, bytes]:
    whole, part = (0, 0, 11, 17), (2, 3, 6, 9)
    files = {f"{bits} bit, interlaced": gif(whole, bits, interlaced=True) for bits in (1, 2, 8)}
    for background, transparent, has_local, frame in itertools.product(
        (0, 3), (None, 0, 2), (False, True), (whole, part)
    ):
        name = f"{frame}, background {background}, transparent {transparent}, local palette {has_local}"
        files[name] = gif(frame, background=background, transparent=transparent, has_local=has_local, frames=2)
    files["no global palette"] = gif(part, has_global=False, has_local=True, transparent=1)
    files["comments"] = gif(part, comment=b"word " * 200, transparent=1)
    return files
