"""Changing the order and the meaning of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pbcompile.steps.base import Schema, Step
from pbcompile.tensor_type import CHANNEL_COUNT, TensorType

if TYPE_CHECKING:
    import tensorflow as tf

ORDERS = ("RGB", "BGR", "RGBA", "BGRA", "GRAY")
"""Channel orders between which only GRAY needs arithmetic."""

SPACES = ("YUV", "YCrCb", "HSV", "LAB")
"""Colour spaces as OpenCV has them on uint8; all but LAB can be left again."""


@dataclass(frozen=True)
class ConvertColor(Step):
    """Make `to` of the channels that stand at this step.

    in:  uint8 or float32 [N, H, W, C] with known channels
    out: the same dtype [N, H, W, channels of `to`].  RGB, BGR, RGBA, BGRA: reordered, alpha dropped or added as opaque
         (255; 1.0 for float32, as `cv2.cvtColor` does).  To GRAY from uint8:
         opencv: (9798·R + 19235·G + 3735·B + 2¹⁴) >> 15; pillow: (19595·R + 38470·G + 7471·B + 2¹⁵) >> 16;
         from float32, opencv only: 0.299·R + 0.587·G + 0.114·B.  From GRAY: the same value in every channel.
         YUV, YCrCb, HSV (hue in 0 … 179) and LAB (L in 0 … 255) from uint8 colours, alpha dropped, and RGB and BGR
         from YUV, YCrCb and HSV: the integers of `cv2.cvtColor(x, COLOR_RGB2…)` and `COLOR_…2RGB`.
    """

    op: ClassVar[str] = "convert_color"
    properties: ClassVar[Mapping[str, Schema]] = {
        "to": {"enum": [*ORDERS, *SPACES], "description": "The channels to make."},
        "like": {
            "enum": ["opencv", "pillow"],
            "description": "Whose weights and rounding make GRAY: cv2.cvtColor or PIL.Image.convert.  "
            "YUV, YCrCb, HSV and LAB are OpenCV's.",
        },
    }
    required: ClassVar[tuple[str, ...]] = ("to",)

    to: str = ""
    like: str = ""

    def check(self, given: TensorType) -> TensorType:
        """The channels of `to`; SpecError where the channels at this step are unknown or `like` is needed."""
        self.require_image(given)
        if given.dtype not in ("uint8", "float32"):
            raise self.fail(
                f'"convert_color" takes uint8 or float32, and is given {given}', hint="cast before this step"
            )
        if given.channels in SPACES:
            return self._check_from_space(given)
        if given.channels not in ORDERS:
            what = f"are {given.channels}" if given.channels else "are not known"
            raise self.fail(
                f'the channels at this step {what}, and "convert_color" starts from ' + ", ".join(ORDERS), "to"
            )
        if self.to == "GRAY" and given.channels != "GRAY":
            if not self.like:
                raise self.fail(
                    '"like" is missing: opencv and pillow round gray differently',
                    hint='add "like": "opencv" or "like": "pillow"',
                )
            if self.like == "pillow" and given.dtype != "uint8":
                raise self.fail(f"pillow has gray of uint8 only, and this step is given {given}", "like")
        if self.to in SPACES:
            if given.dtype != "uint8" or given.channels == "GRAY":
                raise self.fail(f"{self.to} is made of uint8 colours, and this step is given {given}", "to")
            if self.like == "pillow":
                raise self.fail(f"{self.to} is OpenCV's", "like")
        shape = (*given.shape[:3], CHANNEL_COUNT[self.to])
        emitted = replace(given, shape=shape, channels=self.to)
        if self.adds_alpha(given) and given.range is not None:
            opaque = 255.0 if given.dtype == "uint8" else 1.0
            emitted = replace(emitted, range=(min(given.range[0], opaque), max(given.range[1], opaque)))
        return emitted

    def _check_from_space(self, given: TensorType) -> TensorType:
        if self.to == given.channels:
            return given
        if self.to not in ("RGB", "BGR") or given.channels == "LAB" or given.dtype != "uint8":
            raise self.fail(
                f"RGB and BGR are made of uint8 {', '.join(SPACES[:-1])}, and this step is to make "
                f"{self.to} of {given}",
                "to",
            )
        if self.like == "pillow":
            raise self.fail(f"{given.channels} is OpenCV's", "like")
        return replace(given, channels=self.to)

    def adds_alpha(self, given: TensorType) -> bool:
        """True when the result has an alpha channel that `given` has not."""
        return "A" in self.to.replace("GRAY", "") and "A" not in given.channels.replace("GRAY", "")

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One ReverseV2, Slice or GatherV2 for an order, a weighted sum for GRAY."""
        from pbcompile.steps.kernels.colour import (
            from_difference,
            from_hsv,
            reorder,
            to_difference,
            to_gray,
            to_hsv,
            to_lab,
        )

        if self.to == given.channels:
            return x
        if given.channels == "HSV":
            return from_hsv(x, self.to)
        if given.channels in SPACES:
            return from_difference(x, given.channels, self.to)
        if self.to == "GRAY":
            return to_gray(x, given.channels, self.like)
        if self.to in ("YUV", "YCrCb"):
            return to_difference(x, given.channels, self.to)
        if self.to in SPACES:
            return (to_hsv if self.to == "HSV" else to_lab)(x, given.channels)
        return reorder(x, given.channels, self.to)

    def exactness(self, given: TensorType) -> str:
        """Exact on uint8; float gray rounds once where OpenCV's builds differ among themselves."""
        if self.to == "GRAY" and given.is_float and given.channels != "GRAY":
            return "opencv to 1 ulp (its own builds differ by as much)"
        if given.channels == "HSV" and self.to != "HSV":
            return f"exact: opencv {self.to} (on a CPU with AVX2; its rounding depends on the CPU)"
        return f"exact: {self.like or 'opencv'} {self.to}"
