"""Frames as cameras give them: luma and subsampled chroma in one plane, turned into RGB as OpenCV does."""

from __future__ import annotations

from pbcompile.errors import Problem, SpecError
from pbcompile.tensor_type import TensorType

CAMERA = ("NV12", "NV21", "I420", "YUYV")


def camera_types(
    channels: str, dtype: str, shape: list[int | None] | None, layout: str, pointer: str
) -> tuple[TensorType, TensorType]:
    """Types of a fed frame and of the RGB batch that the steps see."""
    del dtype, shape, layout
    raise SpecError(Problem("not-supported", f"{channels} frames are not built yet", f"{pointer}/channels"))
