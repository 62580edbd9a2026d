"""What each step does to a small picture, by the real library, as one PNG: before on the left, after on the right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pbcompile.manual.pages import PHOTO, all_steps
from pbcompile.reference.program import apply_reference
from pbcompile.steps.examples import PICTURES, example_of

GAP = 16


def chart() -> npt.NDArray[np.uint8]:
    """Colour ramps, a disc off the middle, thin lines, so that every step shows.  uint8 RGB [1, 64, 96, 3]."""
    y, x = np.mgrid[:64, :96].astype(np.float64)
    picture = np.stack([x * 2.6, y * 3.9, 255 - x * 2.6], -1)
    picture[np.hypot(y - 24, x - 30) < 15] = (250, 220, 40)
    picture[(x > 60) & (x < 90) & (y > 36) & (y < 58) & ((x + y) % 6 < 2)] = (20, 20, 20)
    image: npt.NDArray[np.uint8] = picture.round().astype(np.uint8)[None]
    return image


def picture_of(op: str) -> Image.Image:
    """Before and after of one step that takes pictures."""
    step = all_steps()[op].from_json(example_of(op), "", Path())
    before, emitted = chart(), step.check(PHOTO)
    after = apply_reference(step, before, PHOTO).astype(np.float64)
    low, high = (0.0, 255.0) if emitted.dtype == "uint8" else (float(after.min()), float(after.max()))
    after = (after - low) / ((high - low) or 1.0) * 255
    if emitted.layout == "NCHW":
        after = after[0].reshape(-1, after.shape[-1])[None, ..., None]  # planes one above the other
    elif not emitted.is_image:
        after = np.repeat(after.reshape(1, 1, -1, 1)[:, :, :192], 12, axis=1)  # its first values as a strip
    pair = [_drawn(before[0]), _drawn(after[0])]
    sheet = Image.new("RGB", (sum(p.width for p in pair) + GAP, max(p.height for p in pair)), "white")
    sheet.paste(pair[0], (0, 0))
    sheet.paste(pair[1], (pair[0].width + GAP, 0))
    return sheet


def _drawn(values: npt.NDArray[np.generic]) -> Image.Image:
    pixels = np.clip(np.rint(values.astype(np.float64)), 0, 255).astype(np.uint8)
    pixels = pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, -1)
    return Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), Image.Resampling.NEAREST)


def draw_all() -> dict[str, Image.Image]:
    """A picture for each step that has one."""
    return {op: picture_of(op) for op in PICTURES}
