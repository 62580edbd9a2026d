"""Steps that mix each pixel with its neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pbcompile.steps.base import Schema, Step
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf

FRACTION_BITS = 8
"""Weights of OpenCV's uint8 blur are multiples of 1/256."""

SMALL_KERNELS: dict[int, tuple[int, ...]] = {
    1: (256,),
    3: (64, 128, 64),
    5: (16, 64, 96, 64, 16),
    7: (8, 28, 56, 72, 56, 28, 8),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}
"""Kernels of small sizes without a sigma, in 1/256: small_gaussian_tab of OpenCV's smooth.dispatch.cpp."""

SIZES: Schema = {
    "description": "Height and width of the kernel, odd; one number for both; left out, OpenCV's size for sigma.",
    "oneOf": [
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
    ],
}


@dataclass(frozen=True)
class Blur(Step):
    """Gaussian blur, as OpenCV does it on uint8.

    in:  uint8 [N, H, W, C]
    out: uint8 [N, H, W, C], `cv2.GaussianBlur(x, (w, h), sigma)`: weights in 1/256 that sum to 1, the error of each
         rounded into the next one; exact sums, (sum + 2¹⁵) >> 16; the border mirrored without the edge pixel.
         Without `sigma`: 0.15·size + 0.35, and fixed kernels up to 9.  Without `size`: round(6·sigma + 1) made odd.
    """

    op: ClassVar[str] = "blur"
    properties: ClassVar[Mapping[str, Schema]] = {
        "size": SIZES,
        "sigma": {
            "type": "number",
            "minimum": 0,
            "default": 0,
            "description": "Of the Gaussian, in pixels; 0: from size.",
        },
        "like": {"enum": ["opencv"], "default": "opencv", "description": "cv2.GaussianBlur."},
    }

    size: int | tuple[int, int] | None = None
    sigma: float = 0.0
    like: str = "opencv"

    @property
    def sizes(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        if self.size is None:
            size = round(self.sigma * 6 + 1) | 1
            return size, size
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def check(self, given: TensorType) -> TensorType:
        """The type given; SpecError for an even size, or neither size nor sigma."""
        self.require_image(given)
        if given.dtype != "uint8":
            raise self.fail(f'"blur" takes uint8, and is given {given}', hint="cast to uint8 before this step")
        if self.size is None and self.sigma == 0:
            raise self.fail('"blur" takes "size" or "sigma"')
        for size in self.sizes:
            if size % 2 == 0:
                raise self.fail(f"the size of a kernel is odd, not {size}", "size")
        return given

    def kernel(self, size: int) -> tuple[int, ...]:
        """`size` weights in 1/256: getGaussianKernelBitExact, made fixed-point with its error carried on."""
        if self.sigma == 0 and size in SMALL_KERNELS:
            return SMALL_KERNELS[size]
        sigma = self.sigma or 0.15 * size + 0.35
        exact = [math.exp(-((i - (size - 1) / 2) ** 2) / (2 * sigma * sigma)) for i in range(size)]
        total = math.fsum(exact)
        side: list[int] = []
        error = 0.0
        for weight in exact[: size // 2]:
            wanted = weight / total * (1 << FRACTION_BITS) + error
            side.append(round(wanted))
            error = wanted - side[-1]
        return (*side, (1 << FRACTION_BITS) - 2 * sum(side), *reversed(side))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Mirror the border, then two depthwise convolutions in float32, exact because all sums stay under 2²⁴."""
        from pbcompile.steps.kernels.sizes import image_size
        from pbcompile.steps.kernels.smoothing import blur

        down, across = (self.kernel(size) for size in self.sizes)
        return blur(x, image_size(x, given), down, across)
