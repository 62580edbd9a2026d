"""Steps that bring an image of any ratio into a fixed frame: fit cuts what is over, letterbox fills what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.steps.base import NUMBERS, SIZE, Schema, Step, as_numbers
from pbcompile.steps.placement import Extent, Move
from pbcompile.steps.resampling import ALL_METHODS, LIBRARIES, check_dtype, check_method, near, resized_type
from pbcompile.tensor_type import INTEGER_RANGE, TensorType

if TYPE_CHECKING:
    import tensorflow as tf

METHOD: Schema = {"enum": list(ALL_METHODS), "description": "How pixels are mixed; which there are depends on `like`."}
LIKE: Schema = {
    "enum": list(LIBRARIES),
    "description": "The library whose pixels, and whose rounding of the ratio, are meant.",
}


@dataclass(frozen=True)
class Fit(Step):
    """Cut the image to the ratio of `size` about its middle, and resize.

    in:  what `resize` takes for the same `like`
    out: [N, h, w, C] of the dtype that `resize` gives.
         pillow: `ImageOps.fit(image, (w, h), method)`, which resizes a part with edges between pixels.
         opencv, tensorflow: whole pixels are cut as Keras does (`smart_resize`, `Resizing(crop_to_aspect_ratio=True)`):
         height min(H, W·h // w), width min(W, H·w // h), start (H − height) // 2; then `resize`.
    """

    op: ClassVar[str] = "fit"
    properties: ClassVar[Mapping[str, Schema]] = {"size": SIZE, "method": METHOD, "like": LIKE}
    required: ClassVar[tuple[str, ...]] = ("size", "method")

    size: tuple[int, int] = (1, 1)
    method: str = ""
    like: str = ""

    def check(self, given: TensorType) -> TensorType:
        """The size asked for."""
        self.require_image(given)
        check_method(self, self.method, self.like)
        check_dtype(self, given, self.like)
        return resized_type(given, self.size, self.method, self.like)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """The ops of crop and resize; for pillow those of resize with other tables."""
        from pbcompile.steps.kernels.resizing import fit
        from pbcompile.steps.kernels.sizes import image_size

        return fit(x, image_size(x, given), self.size, self.method, self.like)

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """A part, with edges between pixels for pillow, resized."""
        from pbcompile.steps.kernels.framing import fit_box, fit_crop
        from pbcompile.steps.kernels.sizes import is_fixed, make_extents, make_values

        part: tuple[Extent, ...]
        if self.like in ("pillow", "pillow-12"):
            if is_fixed(*size):
                edges = [float(edge) for edge in make_values(lambda *s: [fit_box(*s)], *size, *self.size)[0].ravel()]
            else:
                import tensorflow as tf

                edges = tf.unstack(tf.reshape(fit_box(*(tf.cast(s, tf.int32) for s in (*size, *self.size))), [4]))
            part = (edges[0], edges[2], edges[1] - edges[0], edges[3] - edges[2])
        else:
            part = make_extents(fit_crop, *size, *self.size)
        return Move((part[0], part[1], part[2], part[3]), self.size, (0, 0), self.size)

    def exactness(self, given: TensorType) -> str:
        """As near as `resize`."""
        return near(self.method, self.like, given)


@dataclass(frozen=True)
class Letterbox(Step):
    """Resize the image to lie inside of `size` with its ratio kept, and fill the rest.

    in:  what `resize` takes for the same `like`
    out: [N, h, w, C] of the dtype that `resize` gives.
         opencv: as YOLOv5 to v11 do around cv2: ratio = min(h / H, w / W), at most 1 without `upscale`; size
         round(H·ratio), round(W·ratio), half to even (`rounding` "down": cut off, as YOLOX does); (h − rows) // 2 rows
         of the border on top, the odd one at the bottom.  pillow: `ImageOps.pad`.
         tensorflow: `tf.image.resize_with_pad`; with `pad_first`, `keras.layers.Resizing(pad_to_aspect_ratio=True)`,
         which pads before it resizes.
         `align` "top-left" puts the whole border at the bottom and right.
    """

    op: ClassVar[str] = "letterbox"
    properties: ClassVar[Mapping[str, Schema]] = {
        "size": SIZE,
        "method": METHOD,
        "like": LIKE,
        "fill": {
            **NUMBERS,
            "description": "What the border shows: one number, or one per channel; left out 114 for opencv, as the "
            "YOLO families have it, and 0 for the others.",
        },
        "align": {"enum": ["center", "top-left"], "default": "center", "description": "Where the image lies."},
        "upscale": {
            "type": "boolean",
            "default": True,
            "description": "opencv only: false leaves an image smaller than the frame as it is.",
        },
        "rounding": {
            "enum": ["nearest", "down"],
            "default": "nearest",
            "description": "opencv only: what becomes of a fraction of a pixel; YOLOX rounds down.",
        },
        "pad_first": {
            "type": "boolean",
            "default": False,
            "description": "tensorflow only: pad to the ratio and then resize, as Keras Resizing does.",
        },
    }
    required: ClassVar[tuple[str, ...]] = ("size", "method")

    size: tuple[int, int] = (1, 1)
    method: str = ""
    like: str = ""
    fill: float | tuple[float, ...] | None = None
    align: str = "center"
    upscale: bool = True
    rounding: str = "nearest"
    pad_first: bool = False

    @property
    def fills(self) -> tuple[float, ...]:
        """`fill` as a tuple, its default filled in."""
        return as_numbers(self.fill) if self.fill is not None else (114.0 if self.like == "opencv" else 0.0,)

    def check(self, given: TensorType) -> TensorType:
        """The size asked for; SpecError at a key that `like` does not have, or a fill that does not fit."""
        self.require_image(given)
        check_method(self, self.method, self.like)
        check_dtype(self, given, self.like)
        for key, is_set in (("upscale", not self.upscale), ("rounding", self.rounding != "nearest")):
            if is_set and self.like != "opencv":
                raise self.fail(f'"{key}" is a choice of opencv only, and "like" is "{self.like}"', key)
        if self.pad_first and (self.like != "tensorflow" or self.align != "center"):
            raise self.fail('"pad_first" goes with "like": "tensorflow" and "align": "center"', "pad_first")
        self.require_per_channel(given, self.fills, "fill")
        emitted = resized_type(given, self.size, self.method, self.like)
        if emitted.dtype in INTEGER_RANGE:
            low, high = INTEGER_RANGE[emitted.dtype]
            for value in self.fills:
                if value != int(value) or not low <= value <= high:
                    raise self.fail(f"{value} is no value of {emitted.dtype}", "fill")
        if emitted.range is not None:
            low, high = emitted.range
            emitted = replace(emitted, range=(min(low, *self.fills), max(high, *self.fills)))
        return emitted

    def placement(self, height: Any, width: Any) -> tuple[Any, Any, Any, Any]:
        """(rows, columns, top, left) of an image of `height` × `width` in the frame.

        Plain numbers for plain numbers, else int32 scalars.  A box in the frame lies in the source at
        (y − top) · height / rows, (x − left) · width / columns.
        """
        from functools import partial

        from pbcompile.steps.kernels.framing import place
        from pbcompile.steps.kernels.sizes import make_extents

        build = partial(place, self.like, self.align == "center", self.upscale, self.rounding == "down")
        rows, columns, top, left = make_extents(lambda *extents: build(extents), height, width, *self.size)
        return rows, columns, top, left

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """The ops of resize and a constant pad."""
        from pbcompile.steps.kernels import resizing
        from pbcompile.steps.kernels.framing import pad_to_ratio
        from pbcompile.steps.kernels.layout import pad_constant
        from pbcompile.steps.kernels.sizes import image_size, make_extents

        size = image_size(x, given)
        if self.pad_first:
            top, bottom, left, right = make_extents(pad_to_ratio, *size, *self.size)
            x = pad_constant(x, [(top, bottom), (left, right)], self.fills)
            padded = (size[0] + top + bottom, size[1] + left + right)
            return resizing.resize(x, padded, self.size, self.method, self.like)
        return resizing.letterbox(x, size, self.size, self.placement(*size), self.fills, self.method, self.like)

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """The whole, resized into a frame; with `pad_first` more than the whole, resized."""
        from pbcompile.steps.kernels.framing import pad_to_ratio
        from pbcompile.steps.kernels.sizes import make_extents

        if self.pad_first:
            top, bottom, left, right = make_extents(pad_to_ratio, *size, *self.size)
            part = (-top, -left, size[0] + top + bottom, size[1] + left + right)
            return Move(part, self.size, (0, 0), self.size)
        rows, columns, top, left = self.placement(*size)
        return Move((0, 0, *size), (rows, columns), (top, left), self.size)

    def exactness(self, given: TensorType) -> str:
        """As near as `resize`."""
        return near(self.method, self.like, given)
