"""Blurs by OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from pbcompile.steps.base import Step
from pbcompile.steps.smoothing import Blur
from pbcompile.tensor_type import TensorType


def blur(step: Blur, x: np.ndarray, given: TensorType) -> np.ndarray:
    """`cv2.GaussianBlur`, which finds the size itself where the step has none."""
    height, width = (0, 0) if step.size is None else step.size if isinstance(step.size, tuple) else (step.size,) * 2
    images = [cv2.GaussianBlur(np.ascontiguousarray(image), (width, height), step.sigma) for image in x]
    return np.stack(images).reshape(x.shape)


REFERENCE: dict[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]] = {Blur: blur}
