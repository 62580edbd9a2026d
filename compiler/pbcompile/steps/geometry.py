"""Steps that move pixels without mixing them: crop, center_crop, pad, flip, rotate90."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pbcompile.steps.base import SIZE, Schema, Step
from pbcompile.steps.placement import Extent, Move, cut, turned
from pbcompile.tensor_type import INTEGER_RANGE, TensorType

if TYPE_CHECKING:
    import tensorflow as tf

LIKE_ROUNDING = {
    "opencv": "(size - crop) // 2, as programs around cv2 slice",
    "pillow": "round((size - crop) / 2), half to even, as torchvision does on PIL images",
    "tensorflow": "(size - crop) // 2, as Keras CenterCrop does",
}
"""Who puts the odd pixel of a centred crop where."""

COUNT: Schema = {"type": "integer", "minimum": 0}


@dataclass(frozen=True)
class Crop(Step):
    """Cut a rectangle out.

    in:  any dtype [N, H, W, C]
    out: the same dtype [N, height, width, C]: rows top … top + height − 1, columns left … left + width − 1.
         A negative `top` or `left` counts from the end.  `height` or `width` left out or null goes to the end; negative
         leaves that many out at the end.  A rectangle outside of the image is an error, also when it is fed.
    """

    op: ClassVar[str] = "crop"
    properties: ClassVar[Mapping[str, Schema]] = {
        "top": {"type": "integer", "description": "First row; negative counts from the end.", "default": 0},
        "left": {"type": "integer", "description": "First column; negative counts from the end.", "default": 0},
        "height": {
            "type": ["integer", "null"],
            "not": {"const": 0},
            "description": "Rows to keep; null goes to the end, negative leaves that many out at the end.",
        },
        "width": {
            "type": ["integer", "null"],
            "not": {"const": 0},
            "description": "Columns to keep; null goes to the end, negative leaves that many out at the end.",
        },
    }

    top: int = 0
    left: int = 0
    height: int | None = None
    width: int | None = None

    def check(self, given: TensorType) -> TensorType:
        """The cut-out size; SpecError at `height` or `width` where the rectangle leaves the image."""
        self.require_image(given)
        height, width = given.size
        return given.with_size(
            self._extent(height, self.top, self.height, "height"), self._extent(width, self.left, self.width, "width")
        )

    def _extent(self, size: int | None, start: int, length: int | None, key: str) -> int | None:
        if size is None:
            from_end = start < 0 and length is None
            return -start if from_end else length if length is not None and length > 0 else None
        first = start + size if start < 0 else start
        stop = size if length is None else first + length if length > 0 else size + length
        if not 0 <= first < stop <= size:
            raise self.fail(f"the crop goes from {first} to {stop}, and the image has a {key} of {size}", key)
        return stop - first

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Slice."""
        from pbcompile.steps.kernels.layout import crop
        from pbcompile.steps.kernels.sizes import image_size

        return crop(x, *self._rectangle(*image_size(x, given)))

    def _rectangle(self, height: Extent, width: Extent) -> tuple[Extent, Extent, Extent, Extent]:
        """(top, left, rows, columns) in an image of `height` × `width`."""
        top = height + self.top if self.top < 0 else self.top
        left = width + self.left if self.left < 0 else self.left
        rows = height - top + (self.height or 0) if (self.height or 0) <= 0 else self.height
        columns = width - left + (self.width or 0) if (self.width or 0) <= 0 else self.width
        return top, left, rows, columns

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """A part."""
        return cut(*self._rectangle(*size))


@dataclass(frozen=True)
class CenterCrop(Step):
    """Cut the middle out.

    in:  any dtype [N, H, W, C]
    out: the same dtype [N, h, w, C], from the row and column that `like` rounds to (see `LIKE_ROUNDING`).
         `fraction` is `tf.image.central_crop`: start = trunc((H − H·fraction) / 2) in float64, size = H − 2·start.
    """

    op: ClassVar[str] = "center_crop"
    properties: ClassVar[Mapping[str, Schema]] = {
        "size": SIZE,
        "fraction": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "Part of height and width to keep, as tf.image.central_crop does.",
        },
        "like": {
            "enum": ["opencv", "pillow", "tensorflow"],
            "description": "Whose rounding decides where the odd pixel goes: "
            + "; ".join(f"{name}: {rule}" for name, rule in LIKE_ROUNDING.items())
            + ".",
        },
    }

    size: tuple[int, int] | None = None
    fraction: float | None = None
    like: str = ""

    def check(self, given: TensorType) -> TensorType:
        """The size asked for; SpecError where it does not fit, or where `like` is needed to place an odd pixel."""
        self.require_image(given)
        if (self.size is None) == (self.fraction is None):
            raise self.fail('"center_crop" takes either "size" or "fraction"')
        if self.fraction is not None:
            if self.like not in ("", "tensorflow"):
                raise self.fail(f'only tensorflow has a crop by "fraction", and "like" is "{self.like}"', "like")
            return given.with_size(*(None if s is None else s - 2 * self._start(s) for s in given.size))
        assert self.size is not None  # one of the two is there
        for key, have, want in zip(("height", "width"), given.size, self.size, strict=True):
            if have is not None and have < want:
                raise self.fail(f"the image has a {key} of {have}, less than the {want} to cut out", "size")
        is_even = all(
            have is not None and (have - want) % 2 == 0 for have, want in zip(given.size, self.size, strict=True)
        )
        if not self.like and not is_even:
            raise self.fail(
                'an odd pixel lies on different sides for different libraries, and "like" is missing',
                hint="add one of " + ", ".join(f'"like": "{name}" ({rule})' for name, rule in LIKE_ROUNDING.items()),
            )
        return given.with_size(*self.size)

    def _start(self, size: int) -> int:
        assert self.fraction is not None
        return int((size - size * self.fraction) / 2)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Slice; its start is a constant where the size is."""
        from pbcompile.steps.kernels.layout import crop
        from pbcompile.steps.kernels.sizes import image_size

        return crop(x, *self._rectangle(image_size(x, given)))

    def _rectangle(self, sizes: tuple[Extent, Extent]) -> tuple[Extent, Extent, Extent, Extent]:
        """(top, left, rows, columns) in an image of `sizes`."""
        import tensorflow as tf

        starts, extents = [], []
        for axis, size in enumerate(sizes):
            if self.fraction is not None:
                if isinstance(size, int):
                    start = self._start(size)
                else:
                    exact = tf.cast(size, tf.float64)
                    start = tf.cast((exact - exact * self.fraction) / 2, tf.int32)
                extent = size - 2 * start
            else:
                assert self.size is not None
                extent = self.size[axis]
                spare = size - extent
                start = spare // 2
                if self.like == "pillow":  # k + 1/2 goes to the even neighbour
                    start = start + (spare % 2) * (start % 2)
            starts.append(start)
            extents.append(extent)
        return starts[0], starts[1], extents[0], extents[1]

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """A part."""
        return cut(*self._rectangle(size))


@dataclass(frozen=True)
class Pad(Step):
    """Add a border.

    in:  any dtype [N, H, W, C]
    out: the same dtype [N, top + H + bottom, left + W + right, C], or of `size` with the image in its middle (the odd
         pixel goes to the bottom and right, as `tf.image.resize_with_crop_or_pad` has it) or at its top left.
         `constant` fills with `value` (`cv2.BORDER_CONSTANT`), `reflect` mirrors without the edge pixel
         (`BORDER_REFLECT_101`, `np.pad(mode="reflect")`), `symmetric` with it (`BORDER_REFLECT`), `edge` repeats it
         (`BORDER_REPLICATE`).
    """

    op: ClassVar[str] = "pad"
    properties: ClassVar[Mapping[str, Schema]] = {
        **{
            side: {**COUNT, "description": f"Pixels to add at the {side}.", "default": 0}
            for side in ("top", "bottom", "left", "right")
        },
        "size": SIZE,
        "align": {
            "enum": ["center", "top-left"],
            "default": "center",
            "description": "With `size`: where the image lies.",
        },
        "mode": {
            "enum": ["constant", "reflect", "symmetric", "edge"],
            "default": "constant",
            "description": "What the border shows.",
        },
        "value": {
            "description": "With `constant`: the number to fill with, or one per channel.",
            "oneOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}],
            "default": 0,
        },
    }

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    size: tuple[int, int] | None = None
    align: str = "center"
    mode: str = "constant"
    value: float | tuple[float, ...] = 0

    @property
    def values(self) -> tuple[float, ...]:
        """`value`, always as a tuple."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    def check(self, given: TensorType) -> TensorType:
        """The padded size; SpecError where the image is larger than `size` or `value` does not fit the dtype."""
        self.require_image(given)
        self.require_per_channel(given, self.values, "value")
        if given.dtype in INTEGER_RANGE:
            low, high = INTEGER_RANGE[given.dtype]
            for value in self.values:
                if value != int(value) or not low <= value <= high:
                    raise self.fail(f"{value} is no value of {given.dtype}", "value")
        if self.size is None:
            height, width = given.size
            emitted = given.with_size(
                None if height is None else self.top + height + self.bottom,
                None if width is None else self.left + width + self.right,
            )
        else:
            if any((self.top, self.bottom, self.left, self.right)):
                raise self.fail('"pad" takes either "size" or "top", "bottom", "left", "right"', "size")
            for key, have, want in zip(("height", "width"), given.size, self.size, strict=True):
                if have is not None and have > want:
                    raise self.fail(f"the image has a {key} of {have}, more than the {want} to pad to", "size")
            emitted = given.with_size(*self.size)
        if given.range is not None and self.mode == "constant":
            emitted = replace(emitted, range=(min(given.range[0], *self.values), max(given.range[1], *self.values)))
        return emitted

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One PadV2 for one number; gathers along rows and columns for the other modes."""
        from pbcompile.steps.kernels.layout import pad_constant, pad_mirrored
        from pbcompile.steps.kernels.sizes import image_size

        sizes = image_size(x, given)
        borders = self._borders(sizes)
        if self.mode == "constant":
            return pad_constant(x, borders, self.values)
        return pad_mirrored(x, sizes, borders, self.mode)

    def _borders(self, sizes: tuple[Extent, Extent]) -> list[tuple[Extent, Extent]]:
        """(before, after) of rows and columns."""
        if self.size is None:
            return [(self.top, self.bottom), (self.left, self.right)]
        spare = [want - have for want, have in zip(self.size, sizes, strict=True)]
        return [(s // 2 if self.align == "center" else 0, s - s // 2 if self.align == "center" else s) for s in spare]

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """The whole in a larger frame."""
        (top, bottom), (left, right) = self._borders(size)
        return Move((0, 0, *size), size, (top, left), (top + size[0] + bottom, left + size[1] + right))


@dataclass(frozen=True)
class Flip(Step):
    """Mirror the image.

    in:  any dtype [N, H, W, C]
    out: the same, `horizontal`: columns reversed (`cv2.flip(x, 1)`, `ImageOps.mirror`), `vertical`: rows reversed,
    `both`.
    """

    op: ClassVar[str] = "flip"
    properties: ClassVar[Mapping[str, Schema]] = {
        "axis": {"enum": ["horizontal", "vertical", "both"], "description": "`horizontal` swaps left and right."}
    }
    required: ClassVar[tuple[str, ...]] = ("axis",)

    axis: str = "horizontal"

    def check(self, given: TensorType) -> TensorType:
        """The type given."""
        self.require_image(given)
        return given

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One ReverseV2."""
        import tensorflow as tf

        return tf.reverse(x, {"horizontal": [2], "vertical": [1], "both": [1, 2]}[self.axis])

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """A mirrored whole."""
        return turned(size, (False, self.axis != "horizontal", self.axis != "vertical"))


@dataclass(frozen=True)
class Rotate90(Step):
    """Turn the image by right angles.

    in:  any dtype [N, H, W, C]
    out: the same dtype, turned `turns` times by 90° counter-clockwise, as `np.rot90`, `tf.image.rot90` and
         `PIL.Image.transpose(ROTATE_90)` do; negative turns go clockwise (`cv2.ROTATE_90_CLOCKWISE` is −1).
    """

    op: ClassVar[str] = "rotate90"
    properties: ClassVar[Mapping[str, Schema]] = {
        "turns": {"type": "integer", "description": "Quarter turns counter-clockwise; negative goes clockwise."}
    }
    required: ClassVar[tuple[str, ...]] = ("turns",)

    turns: int = 1

    def check(self, given: TensorType) -> TensorType:
        """Height and width change places for an odd number of turns."""
        self.require_image(given)
        height, width = given.size
        return given.with_size(width, height) if self.turns % 2 else given

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """At most one Transpose and one ReverseV2."""
        import tensorflow as tf

        turns = self.turns % 4
        if turns % 2:
            x = tf.transpose(x, [0, 2, 1, 3])
        return tf.reverse(x, {1: [1], 2: [1, 2], 3: [2]}[turns]) if turns else x

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move:
        """A turned whole."""
        turns = self.turns % 4
        return turned(size, (turns % 2 == 1, turns in (1, 2), turns in (2, 3)))
