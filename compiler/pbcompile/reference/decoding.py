"""Image files read by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np


def decode(contents: bytes, channels: str, exif: str = "apply") -> np.ndarray:
    """uint8 [1, H, W, C] of an image file by `cv2.imdecode`; ValueError where OpenCV finds no image.

    `exif="ignore"` is the flag IMREAD_IGNORE_ORIENTATION.
    """
    flag = cv2.IMREAD_GRAYSCALE if channels == "GRAY" else cv2.IMREAD_COLOR
    if exif == "ignore":
        flag |= cv2.IMREAD_IGNORE_ORIENTATION
    image: np.ndarray | None = cv2.imdecode(np.frombuffer(contents, np.uint8), flag)
    if image is None:
        raise ValueError("OpenCV finds no image in these bytes")
    if channels == "GRAY":
        return image[np.newaxis, :, :, np.newaxis]
    return np.ascontiguousarray(image[np.newaxis, :, :, ::-1] if channels == "RGB" else image[np.newaxis])
