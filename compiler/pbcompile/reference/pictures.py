"""Masks, colours and image files by OpenCV, Pillow and NumPy."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pbcompile.reference.places import Seen, mask_back
from pbcompile.reference.resampling import resize_batch
from pbcompile.steps.base import Step
from pbcompile.steps.pictures import ColorMap, Encode, ResizeOutput
from pbcompile.tensor_type import TensorType

Array = npt.NDArray[Any]


def resize_output(step: ResizeOutput, parts: Mapping[str, Array], seen: Sequence[Seen]) -> dict[str, Array]:
    """The library's resize, to a size or back to the source."""
    x = parts[""]
    mask = x[..., np.newaxis] if x.ndim == 3 else x
    if step.size is not None:
        mask = resize_batch(mask, step.size, step.method, step.like)
    else:
        mask = mask_back(seen[0], mask, step.method, step.like, step.fill)
    return {"": mask[..., 0] if x.ndim == 3 else mask}


def color_map(step: ColorMap, x: Array, given: TensorType) -> Array:
    """A palette image of Pillow's, where there are 256 numbers or fewer; else indexing."""
    x = x[..., 0] if x.ndim == 4 else x
    palette = np.zeros((256, 3), np.uint8)
    colours = np.asarray(step.table, np.uint8)
    if len(colours) > 256:
        return colours[x]
    palette[: len(colours)] = colours
    pictures = []
    for numbers in x:
        picture = Image.fromarray(numbers.astype(np.uint8), "L")
        picture.putpalette(palette.tobytes())
        pictures.append(np.asarray(picture.convert("RGB")))
    return np.stack(pictures)


def encode(step: Encode, x: Array, given: TensorType) -> Array:
    """`PIL.Image.save`."""
    x = x[..., 0] if x.ndim == 4 and x.shape[3] == 1 else x
    if step.channels == "BGR" and x.ndim == 4:
        x = np.concatenate([x[..., 2::-1], x[..., 3:]], -1)
    files = []
    for image in x:
        file = io.BytesIO()
        keys = {"quality": step.quality, "subsampling": "4:2:0"} if step.format == "jpeg" else {}
        Image.fromarray(np.ascontiguousarray(image)).save(file, step.format, **keys)
        files.append(file.getvalue())
    return np.array(files, object)


REFERENCE: dict[type[Step], Callable[[Any, Array, TensorType], Array]] = {ColorMap: color_map, Encode: encode}
