"""Positions and masks taken back through the steps of an input, as a program around the libraries does it.

Where a library put a picture is measured on its own output, or written down as its source has it; nothing is shared
with the moves of the steps.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pbcompile.reference.framing import letterbox
from pbcompile.reference.geometry import center_crop as crop_centre
from pbcompile.reference.geometry import crop
from pbcompile.reference.resampling import resize_batch
from pbcompile.steps.base import Step
from pbcompile.steps.framing import Fit, Letterbox
from pbcompile.steps.geometry import CenterCrop, Crop, Flip, Pad, Rotate90
from pbcompile.steps.resampling import Resize
from pbcompile.steps.values import Transpose
from pbcompile.tensor_type import TensorType

Array = npt.NDArray[Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """One image that was fed: the steps it went through with its (height, width) before each and behind the last one.

    orientation: EXIF, of the file it was decoded from; 1 where its pixels are taken as they are stored.
    """

    steps: Sequence[Step]
    sizes: Sequence[Size]
    orientation: int = 1

    def backwards(self) -> Iterator[tuple[Step, Size, Size]]:
        """Each step with the size before and behind it, last one first."""
        return zip(reversed(self.steps), reversed(self.sizes[:-1]), reversed(self.sizes[1:]), strict=True)


def orientation_of(contents: bytes) -> int:
    """The EXIF orientation of an image file, by Pillow."""
    return int(Image.open(io.BytesIO(contents)).getexif().get(274, 1))


def rectangle(step: Step, before: Size, after: Size) -> tuple[float, float, float, float]:
    """(top, left, height, width) of the part of the image before a step that the image behind it shows in full."""
    (height, width), (rows, columns) = before, after
    if isinstance(step, (Crop, CenterCrop)):
        index = np.moveaxis(np.indices((height, width)), 0, -1)[np.newaxis]
        kind = TensorType("int64", index.shape, "NHWC")
        top, left = (crop(step, index, kind) if isinstance(step, Crop) else crop_centre(step, index, kind))[0, 0, 0]
        return float(top), float(left), rows, columns
    if isinstance(step, Pad):
        above, before_left = step.top, step.left
        if step.size is not None and step.align == "center":
            above, before_left = (rows - height) // 2, (columns - width) // 2
        return -above, -before_left, rows, columns
    if isinstance(step, Fit):
        return _fit(step, before)
    if isinstance(step, Letterbox):
        if step.pad_first:
            high, wide = max(height, width * rows // columns), max(width, height * columns // rows)
            top, left = (high - height) // 2, (wide - width) // 2
            return -top, -left, height + 2 * top, width + 2 * left
        top, left, high, wide = placement(step, before)
        down, across = height / high, width / wide
        return -top * down, -left * across, rows * down, columns * across
    return 0.0, 0.0, height, width


def placement(step: Letterbox, before: Size) -> tuple[int, int, int, int]:
    """(top, left, height, width) that a letterbox gives an image: where a white one is white."""
    white = np.full((1, *before, 1), 255, np.uint8)
    framed = letterbox(replace(step, fill=0, method="nearest"), white, TensorType("uint8", white.shape, "NHWC"))
    rows, columns = (np.flatnonzero(framed[0, :, :, 0].any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), len(rows), len(columns)


def _fit(step: Fit, before: Size) -> tuple[float, float, float, float]:
    height, width = before
    if step.like in ("pillow", "pillow-12"):  # ImageOps.fit
        ratio = step.size[1] / step.size[0]
        wide, high = (width, width / ratio) if width / height < ratio else (ratio * height, height)
        return (height - high) * 0.5, (width - wide) * 0.5, high, wide
    high = max(1, min(height, width * step.size[0] // step.size[1]))
    wide = max(1, min(width, height * step.size[1] // step.size[0]))
    return (height - high) // 2, (width - wide) // 2, high, wide


def points_back(seen: Seen, points: Array, *, to_stored: bool) -> Array:
    """float64 [..., 2], (x, y) in the model's image → in the image that was fed, or in the pixels of its file."""
    x, y = points[..., 0].astype(np.float64), points[..., 1].astype(np.float64)
    for step, before, after in seen.backwards():
        if isinstance(step, Flip):
            x = after[1] - x if step.axis in ("horizontal", "both") else x
            y = after[0] - y if step.axis in ("vertical", "both") else y
        elif isinstance(step, Rotate90):
            size = after
            for _ in range(step.turns % 4):  # a turn clockwise undoes one counter-clockwise
                x, y, size = size[0] - y, x, (size[1], size[0])
        elif isinstance(step, Transpose) and step.perm == (0, 2, 1, 3):
            x, y = y, x
        elif before != after or isinstance(step, (Crop, CenterCrop, Pad, Fit, Letterbox)):
            top, left, height, width = rectangle(step, before, after)
            x, y = left + x * width / after[1], top + y * height / after[0]
    if to_stored:
        x, y = _to_stored(x, y, seen.sizes[0], seen.orientation)
    return np.stack([x, y], -1)


def _to_stored(x: Array, y: Array, upright: Size, orientation: int) -> tuple[Array, Array]:
    """Each orientation in the words of the standard: where row 0 and column 0 of the file are when it is shown."""
    height, width = upright
    return {
        1: (x, y),  # top, left
        2: (width - x, y),  # top, right
        3: (width - x, height - y),  # bottom, right
        4: (x, height - y),  # bottom, left
        5: (y, x),  # left, top
        6: (y, width - x),  # right, top
        7: (height - y, width - x),  # right, bottom
        8: (height - y, x),  # left, bottom
    }[orientation]


def mask_back(seen: Seen, mask: Array, method: str, like: str, fill: float) -> Array:
    """[1, h, w, C] over the model's image → the size of the fed image, cutting, pasting and resizing step by step."""
    for step, before, after in seen.backwards():
        if isinstance(step, Flip):
            axes = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}[step.axis]
            mask = np.flip(mask, axes)
        elif isinstance(step, Rotate90):
            mask = np.rot90(mask, -step.turns, axes=(1, 2))
        elif isinstance(step, Transpose) and step.perm == (0, 2, 1, 3):
            mask = mask.swapaxes(1, 2)
        elif isinstance(step, Resize):
            mask = _to(mask, before, method, like)
        elif isinstance(step, (Crop, CenterCrop, Pad, Fit, Letterbox)):
            mask = _to(mask, after, method, like)
            if isinstance(step, Letterbox) and not step.pad_first:
                row, column, rows, columns = placement(step, before)
                mask = _to(mask[:, row : row + rows, column : column + columns], before, method, like)
                continue
            top, left, height, width = rectangle(step, before, after)
            first, last = (round(top), round(left)), (round(top + height), round(left + width))
            mask = _to(mask, (last[0] - first[0], last[1] - first[1]), method, like)
            mask = _paste(mask, first, before, fill)
    return mask


def _to(mask: Array, size: Size, method: str, like: str) -> Array:
    return mask if mask.shape[1:3] == size else resize_batch(mask, size, method, like)


def _paste(mask: Array, at: tuple[int, int], size: Size, fill: float) -> Array:
    canvas = np.full((mask.shape[0], *size, mask.shape[3]), fill, mask.dtype)
    top, left = max(at[0], 0), max(at[1], 0)
    bottom, right = min(at[0] + mask.shape[1], size[0]), min(at[1] + mask.shape[2], size[1])
    canvas[:, top:bottom, left:right] = mask[:, top - at[0] : bottom - at[0], left - at[1] : right - at[1]]
    return canvas
