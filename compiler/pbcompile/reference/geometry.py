"""Steps that move pixels, by NumPy and OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from pbcompile.steps.base import Step
from pbcompile.steps.geometry import CenterCrop, Crop, Flip, Pad, Rotate90
from pbcompile.tensor_type import TensorType

BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "symmetric": cv2.BORDER_REFLECT, "edge": cv2.BORDER_REPLICATE}


def crop(step: Crop, x: np.ndarray, given: TensorType) -> np.ndarray:
    """NumPy slicing, which is what programs around cv2 and PIL do."""
    rows, columns = x.shape[1:3]
    top, left = step.top % rows if step.top < 0 else step.top, step.left % columns if step.left < 0 else step.left
    bottom = rows if step.height is None else step.height if step.height < 0 else top + step.height
    right = columns if step.width is None else step.width if step.width < 0 else left + step.width
    return x[:, top:bottom, left:right]


def center_crop(step: CenterCrop, x: np.ndarray, given: TensorType) -> np.ndarray:
    """Sliced as torchvision does on PIL images, as tf.image.central_crop does, or in the middle rounded down."""
    rows, columns = x.shape[1:3]
    if step.fraction is not None:
        top, left = (int((extent - extent * step.fraction) / 2) for extent in (rows, columns))
        return x[:, top : rows - top, left : columns - left]
    height, width = step.size or (rows, columns)
    if step.like == "pillow":
        top, left = round((rows - height) / 2.0), round((columns - width) / 2.0)
    else:
        top, left = (rows - height) // 2, (columns - width) // 2
    return x[:, top : top + height, left : left + width]


def pad(step: Pad, x: np.ndarray, given: TensorType) -> np.ndarray:
    """`np.pad` for constants, `cv2.copyMakeBorder` for the other modes."""
    top, bottom, left, right = step.top, step.bottom, step.left, step.right
    if step.size is not None:
        spare_rows, spare_columns = step.size[0] - x.shape[1], step.size[1] - x.shape[2]
        top, left = (spare_rows // 2, spare_columns // 2) if step.align == "center" else (0, 0)
        bottom, right = spare_rows - top, spare_columns - left
    if step.mode != "constant":
        images = [_channels(cv2.copyMakeBorder(image, top, bottom, left, right, BORDERS[step.mode]), x) for image in x]
        return (
            np.stack(images)
            if images
            else np.empty((0, x.shape[1] + top + bottom, x.shape[2] + left + right, x.shape[3]), x.dtype)
        )
    values = step.values * (x.shape[3] if len(step.values) == 1 else 1)
    planes = [
        np.pad(x[..., channel], [(0, 0), (top, bottom), (left, right)], constant_values=value)
        for channel, value in enumerate(values)
    ]
    return np.stack(planes, axis=-1)


def _channels(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return image.reshape(*image.shape[:2], like.shape[-1])


def flip(step: Flip, x: np.ndarray, given: TensorType) -> np.ndarray:
    """`cv2.flip`."""
    code = {"horizontal": 1, "vertical": 0, "both": -1}[step.axis]
    return np.stack([_channels(cv2.flip(np.ascontiguousarray(image), code), x) for image in x])


def rotate90(step: Rotate90, x: np.ndarray, given: TensorType) -> np.ndarray:
    """`np.rot90`."""
    return np.rot90(x, step.turns, axes=(1, 2))


REFERENCE: dict[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]] = {
    Crop: crop,
    CenterCrop: center_crop,
    Pad: pad,
    Flip: flip,
    Rotate90: rotate90,
}
