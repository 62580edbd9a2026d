"""Camera frames turned into RGB by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

CODES = {
    "NV12": cv2.COLOR_YUV2RGB_NV12,
    "NV21": cv2.COLOR_YUV2RGB_NV21,
    "I420": cv2.COLOR_YUV2RGB_I420,
    "YUYV": cv2.COLOR_YUV2RGB_YUYV,
}


def decode_camera(x: np.ndarray, channels: str) -> np.ndarray:
    """uint8 RGB [N, H, W, 3] of frames [N, H · 3/2, W, 1], for YUYV [N, H, W, 2], by `cv2.cvtColor`."""
    frames = x if channels == "YUYV" else x[..., 0]
    return np.stack([cv2.cvtColor(np.ascontiguousarray(frame), CODES[channels]) for frame in frames])


def encode_camera(x: np.ndarray, channels: str) -> np.ndarray:
    """Frames of uint8 RGB [N, H, W, 3] with even sides, as a camera would give them: the inverse, but for rounding."""
    return np.stack([_frame(np.ascontiguousarray(image), channels) for image in x])


def _frame(image: np.ndarray, channels: str) -> np.ndarray:
    height, width = image.shape[:2]
    planar = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    luma, chroma = planar[:height], planar[height:].reshape(2, height // 2, width // 2)
    if channels == "I420":
        return np.asarray(planar[..., np.newaxis])
    if channels == "YUYV":
        chroma = chroma.repeat(2, axis=1)
        pairs = np.stack([luma[:, ::2], chroma[0], luma[:, 1::2], chroma[1]], axis=2)
        return pairs.reshape(height, width, 2)
    both = np.stack([chroma[0], chroma[1]] if channels == "NV12" else [chroma[1], chroma[0]], axis=2)
    return np.concatenate([luma, both.reshape(height // 2, width)])[..., np.newaxis]
