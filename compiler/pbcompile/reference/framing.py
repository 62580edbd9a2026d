"""Fitting and letterboxing as programs around the libraries do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from pbcompile.reference.resampling import (
    IS_PILLOW_13,
    PILLOW_METHODS,
    TENSORFLOW_METHODS,
    by_pillow,
    resize_batch,
)
from pbcompile.steps.base import Step
from pbcompile.steps.framing import Fit, Letterbox
from pbcompile.tensor_type import TensorType


def fit(step: Fit, x: np.ndarray, given: TensorType) -> np.ndarray:
    """`ImageOps.fit`, or Keras's `Resizing(crop_to_aspect_ratio=True)`; around cv2 a slice and `cv2.resize`."""
    if step.like == "tensorflow":
        import keras

        layer = keras.layers.Resizing(
            *step.size, interpolation=TENSORFLOW_METHODS[step.method], crop_to_aspect_ratio=True, dtype="float32"
        )
        resized = np.asarray(layer(x.astype(np.float32)))
        return resized.astype(x.dtype) if step.method == "nearest" else resized
    height, width = x.shape[1:3]
    if step.like != "opencv":
        if (step.like == "pillow") != IS_PILLOW_13 and step.method != "nearest":
            raise ValueError("ImageOps.fit in the other order needs another Pillow than the installed one")
        size = (step.size[1], step.size[0])
        return np.stack(
            [by_pillow(image, lambda picture: ImageOps.fit(picture, size, PILLOW_METHODS[step.method])) for image in x]
        )
    rows = min(height, int(width * step.size[0] / step.size[1]))
    columns = min(width, int(height * step.size[1] / step.size[0]))
    rows, columns = max(rows, 1), max(columns, 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return resize_batch(x[:, top : top + rows, left : left + columns], step.size, step.method, "opencv")


def letterbox(step: Letterbox, x: np.ndarray, given: TensorType) -> np.ndarray:
    """The letterbox of the YOLO families around cv2, `ImageOps.pad`, or `tf.image.resize_with_pad`."""
    if step.like == "tensorflow":
        return _letterbox_tensorflow(step, x)
    one = _letterbox_opencv if step.like == "opencv" else _letterbox_pillow
    return np.stack([one(step, image) for image in x])


def _letterbox_opencv(step: Letterbox, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    ratio = min(step.size[0] / height, step.size[1] / width)
    if not step.upscale:
        ratio = min(ratio, 1.0)
    whole: Callable[[float], int] = int if step.rounding == "down" else round
    rows, columns = max(1, whole(height * ratio)), max(1, whole(width * ratio))
    resized = resize_batch(image[np.newaxis], (rows, columns), step.method, "opencv")[0]
    down, across = step.size[0] - rows, step.size[1] - columns
    top, left = (round(down / 2 - 0.1), round(across / 2 - 0.1)) if step.align == "center" else (0, 0)
    planes = [
        cv2.copyMakeBorder(plane, top, down - top, left, across - left, cv2.BORDER_CONSTANT, value=fill)
        for plane, fill in zip(np.moveaxis(resized, 2, 0), _per_channel(step, image), strict=True)
    ]
    return np.stack(planes, axis=2)


def _per_channel(step: Letterbox, image: np.ndarray) -> tuple[float, ...]:
    fill = step.fill if step.fill is not None else (114 if step.like == "opencv" else 0)
    return fill if isinstance(fill, tuple) else (fill,) * image.shape[2]


def _letterbox_pillow(step: Letterbox, image: np.ndarray) -> np.ndarray:
    if (step.like == "pillow") != IS_PILLOW_13 and step.method != "nearest":
        raise ValueError("ImageOps.pad in the other order needs another Pillow than the installed one")
    fills = _per_channel(step, image)
    color: Any = tuple(int(fill) for fill in fills) if image.shape[2] > 1 and image.dtype == np.uint8 else fills[0]
    centering = (0.5, 0.5) if step.align == "center" else (0.0, 0.0)

    def pad(picture: Image.Image) -> Image.Image:
        fill = int(color) if picture.mode == "L" else color
        size = (step.size[1], step.size[0])
        return ImageOps.pad(picture, size, PILLOW_METHODS[step.method], color=fill, centering=centering)

    return by_pillow(image, pad)


def _letterbox_tensorflow(step: Letterbox, x: np.ndarray) -> np.ndarray:
    """TensorFlow pads with zeros, so what it pads is found by resizing ones."""
    import keras
    import tensorflow as tf

    fill = np.asarray(_per_channel(step, x[0]), np.float32)
    method = TENSORFLOW_METHODS[step.method]
    if step.pad_first:
        planes = [
            keras.layers.Resizing(
                *step.size,
                interpolation=method,
                pad_to_aspect_ratio=True,
                fill_value=float(value),
                dtype="float32",
            )(x[..., channel : channel + 1].astype(np.float32))
            for channel, value in enumerate(fill)
        ]
        result = np.concatenate([np.asarray(plane) for plane in planes], axis=-1)
    else:
        result = tf.image.resize_with_pad(x.astype(np.float32), *step.size, method=method).numpy()
        inside = tf.image.resize_with_pad(np.ones_like(x, np.float32), *step.size, method="nearest").numpy() > 0
        if step.align == "top-left":
            rows, columns = int(inside[0, :, :, 0].any(1).sum()), int(inside[0, :, :, 0].any(0).sum())
            moved = result[:, inside[0, :, :, 0].any(1)][:, :, inside[0, :, :, 0].any(0)]
            result = np.broadcast_to(fill, result.shape).copy()
            result[:, :rows, :columns] = moved
        else:
            result = np.where(inside, result, fill)
    return result.astype(x.dtype) if step.method == "nearest" else result.astype(np.float32)


REFERENCE: dict[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]] = {Fit: fit, Letterbox: letterbox}
