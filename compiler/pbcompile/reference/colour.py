"""Channels converted by cv2.cvtColor or PIL.Image.convert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pbcompile.steps.base import Step
from pbcompile.steps.colour import SPACES, ConvertColor
from pbcompile.tensor_type import TensorType


def convert_color(step: ConvertColor, x: np.ndarray, given: TensorType) -> np.ndarray:
    """The conversion of the library that the step names, image by image; OpenCV where they agree."""
    if step.to == given.channels:
        return x
    one = _pillow_gray if step.like == "pillow" and step.to == "GRAY" else _opencv
    return np.stack([one(np.ascontiguousarray(image), given.channels, step.to) for image in x])


def _opencv(image: np.ndarray, given: str, to: str) -> np.ndarray:
    if to in SPACES:
        given = given[:3]  # OpenCV's codes of three channels take four, too
    code = getattr(cv2, f"COLOR_{given}2{'Lab' if to == 'LAB' else to}")
    converted: np.ndarray = cv2.cvtColor(image, code)
    return converted.reshape(*image.shape[:2], -1)


def _pillow_gray(image: np.ndarray, given: str, to: str) -> np.ndarray:
    rgb = image[..., [given.index(channel) for channel in "RGB"]]
    return np.asarray(Image.fromarray(rgb).convert("L"))[..., np.newaxis]


REFERENCE: dict[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]] = {ConvertColor: convert_color}
