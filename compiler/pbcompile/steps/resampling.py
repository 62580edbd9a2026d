"""Steps that change the size of an image, each with the pixels of the library that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pbcompile.steps.base import POSITIVE, SIZE, Schema, Step
from pbcompile.steps.placement import Extent, Move, resized
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf

PILLOW = ("nearest", "box", "linear", "hamming", "cubic", "lanczos")
METHODS: dict[str, tuple[str, ...]] = {
    "opencv": ("nearest", "linear", "cubic", "area", "lanczos"),
    "pillow": PILLOW,
    "pillow-12": PILLOW,
    "tensorflow": ("nearest", "linear", "cubic", "area", "lanczos"),
}
"""The methods that each library has."""

LIBRARIES = tuple(sorted(METHODS))
ALL_METHODS = ("nearest", "linear", "cubic", "area", "lanczos", "box", "hamming")


def check_method(step: Step, method: str, like: str) -> None:
    """Raise SpecError unless `like` is a library and has `method`."""
    if like not in METHODS:
        raise step.fail(
            '"like" is missing: the libraries give different pixels',
            hint="add " + " or ".join(f'"like": "{name}"' for name in sorted(METHODS)),
        )
    if method not in METHODS[like]:
        raise step.fail(f'{like} has no method "{method}"', "method", hint=f"{like} has " + ", ".join(METHODS[like]))


def check_dtype(step: Step, given: TensorType, like: str) -> None:
    """Raise SpecError unless `like` can resize `given`'s dtype."""
    dtypes = {"tensorflow": ("uint8", "int8", "uint16", "int32", "float16", "float32", "float64")}.get(
        like, ("uint8", "float32")
    )
    if given.channel_count is None:
        raise step.fail(f"the number of channels must be known to resize, and is not in {given}")
    if given.dtype not in dtypes:
        raise step.fail(
            f"resize like {like} takes {' or '.join(dtypes)}, and is given {given}", hint="cast before this step"
        )


def resized_type(given: TensorType, size: tuple[int | None, int | None], method: str, like: str) -> TensorType:
    """`given` resized: tensorflow makes float32 but for `nearest`; what is not clipped may leave its range."""
    emitted = given.with_size(*size)
    if like == "tensorflow" and method != "nearest":
        emitted = replace(emitted, dtype="float32")
    if method in ("cubic", "lanczos") and emitted.is_float:
        emitted = replace(emitted, range=None)
    return emitted


@dataclass(frozen=True)
class Resize(Step):
    """Resize, with the pixels that the library `like` gives.

    in:  opencv, pillow: uint8 or float32 [N, H, W, C]; tensorflow: any number
    out: opencv, pillow: the same dtype; tensorflow: float32, `nearest` keeps the dtype.  Size: `size`; or the shorter
         (longer) side becomes that long and the other one follows, rounded down as torchvision does:
         other · side // shorter, at least 1.
         opencv: `cv2.resize(x, (w, h), interpolation=…)`, uint8 through its fixed-point code, float32 through its float
         code; `cubic` and float32 `linear` as its x86 builds have them, by Intel IPP.
         pillow: `Image.resize((w, h), …)`: box, bilinear (`linear`), hamming, bicubic (`cubic`) and lanczos widen their
         kernel when shrinking and round between two passes; 4 channels of uint8 are an RGBA image, whose colours
         Pillow multiplies by alpha first; float32 is one image of mode F per channel.
         tensorflow: `tf.image.resize(x, size, method, antialias=antialias)`, `linear` is its bilinear, `cubic` its
         bicubic, `lanczos` its lanczos3.
    """

    op: ClassVar[str] = "resize"
    properties: ClassVar[Mapping[str, Schema]] = {
        "size": SIZE,
        "shorter_side": {**POSITIVE, "description": "Length of the shorter side; the other one keeps the ratio."},
        "longer_side": {**POSITIVE, "description": "Length of the longer side; the other one keeps the ratio."},
        "method": {
            "enum": list(ALL_METHODS),
            "description": "How pixels are mixed; which there are depends on `like`.",
        },
        "like": {
            "enum": list(LIBRARIES),
            "description": "The library whose pixels are meant.  pillow-12 is Pillow 9 to 12, which always mixes "
            "columns before rows; pillow is 13, which starts with the rows where far more of them go than columns.",
        },
        "antialias": {
            "type": "boolean",
            "default": False,
            "description": "tensorflow only: widen the kernel when shrinking.",
        },
    }
    required: ClassVar[tuple[str, ...]] = ("method",)

    size: tuple[int, int] | None = None
    shorter_side: int | None = None
    longer_side: int | None = None
    method: str = ""
    like: str = ""
    antialias: bool = False

    def check(self, given: TensorType) -> TensorType:
        """The new size; SpecError at the key that `like` does not have."""
        self.require_image(given)
        if sum(value is not None for value in (self.size, self.shorter_side, self.longer_side)) != 1:
            raise self.fail('"resize" takes one of "size", "shorter_side" and "longer_side"')
        check_method(self, self.method, self.like)
        check_dtype(self, given, self.like)
        if self.antialias and self.like != "tensorflow":
            raise self.fail(f'"antialias" is a choice of tensorflow only, and "like" is "{self.like}"', "antialias")
        return resized_type(given, self.target(*given.size), self.method, self.like)

    def target(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        """The size that an image of `height` × `width` gets."""
        if self.size is not None:
            return self.size
        if height is None or width is None:
            return None, None
        side = self.shorter_side or self.longer_side or 1
        is_height = (height <= width) == (self.shorter_side is not None)
        if height == width:
            return side, side
        return (side, max(1, width * side // height)) if is_height else (max(1, height * side // width), side)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Tables of taps and weights (constants for fixed sizes), then gathers and sums."""
        from pbcompile.steps.kernels.resizing import resize
        from pbcompile.steps.kernels.sizes import image_size

        size = image_size(x, given)
        return resize(x, size, self._extents(*size), self.method, self.like, self.antialias)

    def _extents(self, height: Extent, width: Extent) -> tuple[Extent, Extent]:
        """`target`, also of sizes that are known only when fed."""
        import tensorflow as tf

        from pbcompile.steps.kernels.sizes import is_fixed, largest, smallest

        if self.size is not None or is_fixed(height, width):
            return self.target(height, width)
        side = self.shorter_side or self.longer_side
        base = smallest(height, width) if self.shorter_side is not None else largest(height, width)
        # The side that is `base` long becomes side · base // base = side.
        return tf.maximum(1, height * side // base), tf.maximum(1, width * side // base)

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """The whole, resized."""
        return resized(size, self._extents(*size))

    def exactness(self, given: TensorType) -> str:
        """Which pixels come out, and how near."""
        return near(self.method, self.like, given)


def near(method: str, like: str, given: TensorType) -> str:
    """How near a resize comes to its library: measured in tests/steps/test_resampling.py."""
    if like == "opencv" and method == "cubic" and not given.is_float:
        return "opencv cubic: 1 level in at most 0.01 % of photos and noise (Intel IPP inside OpenCV differs by CPU)"
    if like == "opencv" and method == "linear" and given.is_float:
        return "opencv linear, as Intel IPP inside OpenCV has it with AVX2: but for single ulps where CPUs differ"
    if like == "opencv" and method == "cubic" and given.is_float:
        return "opencv cubic: to a few ulp (Intel IPP inside OpenCV differs by CPU)"
    return f"exact: {like} {method}"
