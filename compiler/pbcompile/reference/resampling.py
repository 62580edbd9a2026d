"""Resizing by the libraries themselves: cv2, PIL, tf.image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from pbcompile.steps.base import Step
from pbcompile.steps.resampling import Resize
from pbcompile.tensor_type import TensorType

OPENCV_METHODS = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR}
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
    images = [_resize_opencv(np.ascontiguousarray(image), target, method) for image in x]
    return np.stack(images) if images else np.empty((0, *target, x.shape[3]), x.dtype)


def _resize_opencv(image: np.ndarray, target: tuple[int, int], method: str) -> np.ndarray:
    resized: np.ndarray = cv2.resize(image, (target[1], target[0]), interpolation=OPENCV_METHODS[method])
    return resized.reshape(*target, image.shape[2])


REFERENCE: dict[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]] = {Resize: resize}
