"""Resizing by the libraries themselves: cv2, PIL, tf.image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import PIL
from PIL import Image

from pbcompile.steps.base import Step
from pbcompile.steps.resampling import Resize
from pbcompile.tensor_type import TensorType

IS_PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13

OPENCV_METHODS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
PILLOW_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "linear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "cubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
TENSORFLOW_METHODS = {
    "nearest": "nearest",
    "linear": "bilinear",
    "cubic": "bicubic",
    "area": "area",
    "lanczos": "lanczos3",
}


def resize(step: Resize, x: np.ndarray, given: TensorType) -> np.ndarray:
    """`cv2.resize` or `tf.image.resize`, image by image."""
    return resize_batch(x, _target(step, *x.shape[1:3]), step.method, step.like, step.antialias)


def _target(step: Resize, height: int, width: int) -> tuple[int, int]:
    if step.size is not None:
        return step.size
    # torchvision.transforms.functional._compute_resized_output_size
    short, long = sorted((height, width))
    if step.shorter_side is not None:
        new_short, new_long = step.shorter_side, int(step.shorter_side * long / short)
    else:
        assert step.longer_side is not None
        new_short, new_long = max(1, int(step.longer_side * short / long)), step.longer_side
    return (new_short, new_long) if height <= width else (new_long, new_short)


def resize_batch(x: np.ndarray, target: tuple[int, int], method: str, like: str, antialias: bool = False) -> np.ndarray:
    """[N, H, W, C] resized to `target` (height, width) by the library `like`."""
    if like == "tensorflow":
        import tensorflow as tf

        return np.asarray(tf.image.resize(x, target, TENSORFLOW_METHODS[method], antialias=antialias))
    if like == "opencv":
        one = _resize_opencv
    else:
        one = _resize_pillow if (like == "pillow") == IS_PILLOW_13 else _resize_pillow_in_the_other_order
    images = [one(np.ascontiguousarray(image), target, method) for image in x]
    return np.stack(images) if images else np.empty((0, *target, x.shape[3]), x.dtype)


def _resize_opencv(image: np.ndarray, target: tuple[int, int], method: str) -> np.ndarray:
    resized: np.ndarray = cv2.resize(image, (target[1], target[0]), interpolation=OPENCV_METHODS[method])
    return resized.reshape(*target, image.shape[2])


def _resize_pillow(image: np.ndarray, target: tuple[int, int], method: str) -> np.ndarray:
    return by_pillow(image, lambda picture: picture.resize((target[1], target[0]), PILLOW_METHODS[method]))


def _resize_pillow_in_the_other_order(image: np.ndarray, target: tuple[int, int], method: str) -> np.ndarray:
    """What Pillow 13 does by Pillow 12 and the other way round, side by side.

    Pillow 13 starts with the height where that loses more than twice as many pixels as the width does.
    """
    (height, width), (rows, columns) = image.shape[:2], target
    if (height, width) == target:
        return image
    is_tall = height > rows and height - rows > 2 * (width - columns)
    halfway = (width, rows) if is_tall and not IS_PILLOW_13 else (columns, height)

    def both(picture: Image.Image) -> Image.Image:
        mode = picture.mode
        if mode == "RGBA" and method != "nearest":
            picture = picture.convert("RGBa")  # as `resize` does, but once around both sides
        resized = picture.resize(halfway, PILLOW_METHODS[method]).resize((columns, rows), PILLOW_METHODS[method])
        return resized.convert(mode) if resized.mode != mode else resized

    return by_pillow(image, both)


def by_pillow(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """RGB and RGBA as one picture, everything else (gray, float32) channel by channel."""
    if image.dtype == np.uint8 and image.shape[2] in (3, 4):
        return np.asarray(change(Image.fromarray(image)))
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(change(plane)) for plane in planes], axis=2)


REFERENCE: dict[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]] = {Resize: resize}
