"""Scans of handwritten digits: scikit-learn's 8x8 digits as a phone or a flatbed would have photographed them.

Each digit becomes a JPEG of its own size and aspect ratio, written a little crooked, in dark ink on tinted paper,
under uneven light, with sensor noise; every fifth is held sideways, as phones do it: the pixels are turned and an
EXIF tag says how.  A scan depends on the seed and its own number only, so any part of the set can be made alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

TRAINING_DIGITS = 1297
"""The digits are sorted by writer, so the 500 after these were written by other hands."""

EXIF_ORIENTATION = 0x0112
SIDEWAYS = {3: 2, 6: 1, 8: 3}
"""EXIF orientation -> counter-clockwise quarter turns that were done to the upright picture before it was stored."""


@dataclass(frozen=True)
class Scan:
    """One JPEG file, the digit on it, and its EXIF orientation (1 is upright)."""

    jpeg: bytes
    digit: int
    orientation: int


def digits(held_out: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """scikit-learn's digits as ink in 0..1, [n, 8, 8], and what they are: the training part or the held-out part."""
    data = load_digits()
    part = slice(TRAINING_DIGITS, None) if held_out else slice(TRAINING_DIGITS)
    return (data.images[part] / 16).astype(np.float32), data.target[part].astype(np.int64)


def make_scan(ink: NDArray[np.float32], digit: int, number: int, seed: int) -> Scan:
    """The scan with this `number` in the set `seed`, of one 8x8 digit."""
    random = np.random.default_rng([seed, number])
    picture = photograph(write(ink, random), random)
    orientation = int(random.choice([3, 6, 8])) if number % 5 == 4 else 1
    picture = np.rot90(picture, SIDEWAYS.get(orientation, 0))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=int(random.integers(55, 96)), exif=exif)
    return Scan(file.getvalue(), digit, orientation)


def write(ink: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The digit on a sheet of any size and aspect ratio, as strokes in 0..1, [height, width]."""
    height = round(40 * 16 ** random.random())  # 40 to 640 pixels, small ones as likely as large ones
    width = round(height * 2 ** random.uniform(-0.5, 0.5))
    size = max(height, width)
    margin = random.uniform(0.0, 0.12)
    pixels = np.pad(ink, 1)
    to_sheet = np.array(
        [
            [width * (1 - 2 * margin) / 10, 0, width * (margin + (1 - 2 * margin) / 20)],
            [0, height * (1 - 2 * margin) / 10, height * (margin + (1 - 2 * margin) / 20)],
        ]
    )
    crooked = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-12, 12), 1.0), [0, 0, 1]])
    move = np.eye(3)
    move[:2, 2] = random.uniform(-0.05, 0.05, 2) * size
    placed = move @ crooked @ np.vstack([to_sheet, [0, 0, 1]])
    strokes = cv2.warpAffine(pixels, placed[:2], (width, height), flags=cv2.INTER_CUBIC)
    return np.clip((strokes - 0.25) * random.uniform(1.4, 2.6), 0, 1)


def photograph(strokes: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.uint8]:
    """Ink on paper under a lamp through a lens: RGB, uint8, [height, width, 3]."""
    height, width = strokes.shape
    paper = random.uniform(0.65, 1.0) * random.uniform(0.85, 1.0, 3)
    pen = paper * random.uniform(0.1, 0.55, 3)
    page = paper + strokes[..., None] * (pen - paper)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = random.uniform(0, 2 * np.pi)
    lamp = 1 - random.uniform(0, 0.3) * (1 + np.cos(angle) * x + np.sin(angle) * y) / 2
    noise = random.uniform(0.005, 0.06) * random.standard_normal((height, width, 1))
    return np.clip(255 * (page * lamp[..., None] + noise), 0, 255).astype(np.uint8)


def make_scans(held_out: bool, per_digit: int, seed: int) -> list[Scan]:
    """`per_digit` scans of every digit of the training or the held-out part."""
    ink, labels = digits(held_out)
    many = ((image, label) for _ in range(per_digit) for image, label in zip(ink, labels, strict=True))
    return [make_scan(image, int(label), number, seed) for number, (image, label) in enumerate(many)]


def write_held_out(folder: Path, seed: int = 2026) -> list[Scan]:
    """The 500 held-out scans, also as `folder/<digit>/<number>.jpg`: one folder per class."""
    made = make_scans(held_out=True, per_digit=1, seed=seed)
    for number, scan in enumerate(made):
        path = folder / str(scan.digit) / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scan.jpeg)
    return made
