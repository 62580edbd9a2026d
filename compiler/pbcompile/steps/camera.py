"""Frames as cameras give them: luma and subsampled chroma in one plane, turned into RGB as OpenCV does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbcompile.errors import Problem, SpecError
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf

CAMERA = ("NV12", "NV21", "I420", "YUYV")
"""NV12, NV21, I420: H rows of luma above H / 2 rows of chroma, [H · 3/2, W, 1].  YUYV: [H, W, 2]."""


def camera_types(
    channels: str, dtype: str, shape: list[int | None] | None, layout: str, pointer: str
) -> tuple[TensorType, TensorType]:
    """Types of a fed frame and of the RGB batch that the steps see; SpecError for sizes that OpenCV refuses.

    `shape` has 4 numbers, [N, H · 3/2, W, 1] or for YUYV [N, H, W, 2], or 3 without the batch; None for any size.
    """
    count = 2 if channels == "YUYV" else 1
    if dtype != "uint8":
        raise SpecError(Problem("spec-invalid", f"{channels} frames are uint8, not {dtype}", f"{pointer}/dtype"))
    if layout != "NHWC":
        message = f'{channels} frames have no layout "{layout}"'
        raise SpecError(Problem("spec-invalid", message, f"{pointer}/layout"))
    shape = [None, None, None, count] if shape is None else list(shape)
    form = "[height, width, 2]" if count == 2 else "[height · 3 / 2, width, 1]"
    if len(shape) not in (3, 4) or shape[-1] not in (None, count):
        message = f"a {channels} frame has the shape {form}, with or without the batch, not {shape}"
        raise SpecError(Problem("spec-invalid", message, f"{pointer}/shape"))
    shape[-1] = count
    rows, width = shape[-3:-1]
    if width is not None and width % 2:
        raise SpecError(Problem("spec-invalid", f"{channels} needs an even width, not {width}", f"{pointer}/shape"))
    if rows is not None and count == 1 and rows % 3:
        message = f"{channels} has rows of luma and half as many of chroma, together a multiple of 3, not {rows}"
        raise SpecError(Problem("spec-invalid", message, f"{pointer}/shape"))
    height = rows if rows is None or count == 2 else rows * 2 // 3
    fed = TensorType("uint8", tuple(shape), "NHWC" if len(shape) == 4 else "HWC", channels, (0, 255))
    batch = shape[0] if len(shape) == 4 else 1
    return fed, TensorType("uint8", (batch, height, width, 3), "NHWC", "RGB", (0, 255))


def decode_camera(x: tf.Tensor, channels: str) -> tf.Tensor:
    """uint8 RGB [N, H, W, 3] of frames [N, H · 3/2, W, 1] (YUYV: [N, H, W, 2]): `cv2.cvtColor(frame, COLOR_YUV2RGB_…)`.

    BT.601 in 20-bit fixed point; each chroma sample is that of its 2×2 (YUYV: 1×2) pixels.  A frame of odd sizes fails
    when it is fed, as OpenCV refuses it.
    """
    from pbcompile.steps.kernels.camera import frame_to_rgb

    return frame_to_rgb(x, channels)
