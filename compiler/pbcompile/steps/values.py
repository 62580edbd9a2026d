"""Steps on single values and on axes: casting, clipping, rounding, transposing, reshaping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.steps.base import NUMBER, Schema, Step
from pbcompile.steps.placement import Extent, Move, turned
from pbcompile.tensor_type import INTEGER_RANGE, TensorType

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

DTYPES = ("uint8", "uint16", "int8", "int32", "int64", "float16", "float32", "float64")


@dataclass(frozen=True)
class Cast(Step):
    """Change the dtype; to an integer dtype the value is truncated toward zero and saturates at the ends.

    in:  any numeric dtype and shape
    out: the same shape, `dtype`
    """

    op: ClassVar[str] = "cast"
    properties: ClassVar[Mapping[str, Schema]] = {
        "dtype": {"description": "The dtype to change to.", "enum": list(DTYPES)},
    }
    required: ClassVar[tuple[str, ...]] = ("dtype",)

    dtype: str

    def check(self, given: TensorType) -> TensorType:
        """The same type with another dtype; the range is cut to what the dtype holds."""
        limits = INTEGER_RANGE.get(self.dtype)
        known = given.range
        if limits and known:
            known = (max(limits[0], math.trunc(known[0])), min(limits[1], math.trunc(known[1])))
        return replace(given, dtype=self.dtype, range=known or limits)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Clamp where the source can exceed the target, then Cast.

        The clamp's upper end is the largest value of the source dtype that the target holds: 2**31 - 1 itself is no
        float32, and casting 2**31 would wrap.
        """
        import numpy as np
        import tensorflow as tf

        target = np.dtype(self.dtype)
        source = x.dtype.as_numpy_dtype
        if target.kind in "iu":
            info = np.iinfo(target)
            low, high = _representable(info.min, info.max, np.dtype(source))
            own = given.range if given.dtype in INTEGER_RANGE else None
            if own is None or own[0] < low or own[1] > high:
                inside = tf.clip_by_value(x, tf.constant(low, x.dtype), tf.constant(high, x.dtype))
                if int(high) == info.max or target.itemsize < 4 or np.dtype(source).kind in "iu":
                    return tf.cast(inside, self.dtype)
                return tf.where(x > high, tf.constant(info.max, self.dtype), tf.cast(inside, self.dtype))
        return x if x.dtype == tf.as_dtype(self.dtype) else tf.cast(x, self.dtype)


def _representable(low: int, high: int, source: np.dtype[Any]) -> tuple[Any, Any]:
    """The ends of [low, high] moved inwards to values that the dtype `source` can hold."""
    import numpy as np

    if source.kind in "iu":
        own = np.iinfo(source)
        return max(low, own.min), min(high, own.max)
    limits = np.finfo(source)
    ends = []
    for value in (low, high):
        near = source.type(max(min(float(value), float(limits.max)), float(limits.min)))
        ends.append(np.nextafter(near, source.type(0)) if abs(float(near)) > abs(value) else near)
    if float(ends[1]) >= float(high) + 1 or int(ends[1]) > high:
        ends[1] = np.nextafter(ends[1], source.type(0))
    return ends[0], ends[1]


@dataclass(frozen=True)
class Clip(Step):
    """Limit the values to [min, max]; either end may be left out.

    in:  any numeric dtype and shape
    out: the same type
    """

    op: ClassVar[str] = "clip"
    properties: ClassVar[Mapping[str, Schema]] = {
        "min": {**NUMBER, "description": "Smallest value."},
        "max": {**NUMBER, "description": "Largest value."},
    }

    min: float | None = None
    max: float | None = None

    def check(self, given: TensorType) -> TensorType:
        """The same type with a narrower range."""
        if self.min is None and self.max is None:
            raise self.fail('"clip" needs "min", "max" or both')
        if self.min is not None and self.max is not None and self.min > self.max:
            raise self.fail(f"min {self.min} is larger than max {self.max}", "min")
        limits = INTEGER_RANGE.get(given.dtype)
        for key, end in (("min", self.min), ("max", self.max)):
            if limits and end is not None and (end != int(end) or not limits[0] <= end <= limits[1]):
                raise self.fail(f"{end} is no value of {given.dtype}", key, "cast to float32 before this step")
        known = given.range
        low = self.min if known is None else known[0] if self.min is None else max(self.min, known[0])
        high = self.max if known is None else known[1] if self.max is None else min(self.max, known[1])
        return replace(given, range=None if low is None or high is None else (min(low, high), max(low, high)))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Maximum and Minimum."""
        import tensorflow as tf

        x = x if self.min is None else tf.maximum(x, tf.constant(self.min, x.dtype))
        return x if self.max is None else tf.minimum(x, tf.constant(self.max, x.dtype))


@dataclass(frozen=True)
class Round(Step):
    """Round to the nearest integer, halves to the even one, as `numpy.rint`.

    in:  any numeric dtype and shape
    out: the same type; integers pass unchanged
    """

    op: ClassVar[str] = "round"

    def check(self, given: TensorType) -> TensorType:
        """The same type."""
        return replace(given, range=given.range and (round(given.range[0]), round(given.range[1])))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Rint."""
        import tensorflow as tf

        return tf.round(x) if given.is_float else x


@dataclass(frozen=True)
class Transpose(Step):
    """Reorder the axes: to a layout, or by a permutation.

    in:  any dtype; for `layout` an image
    out: the same values with axes reordered
    """

    op: ClassVar[str] = "transpose"
    properties: ClassVar[Mapping[str, Schema]] = {
        "layout": {"description": "Image layout to change to.", "enum": ["NHWC", "NCHW"]},
        "perm": {
            "description": "Order of the old axes in the new tensor, batch axis included (it stays first).",
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "minItems": 1,
        },
    }

    layout: str | None = None
    perm: tuple[int, ...] | None = None

    def order(self, given: TensorType) -> tuple[int, ...]:
        """The permutation this step stands for on a tensor of type `given`."""
        if self.perm is not None:
            return self.perm
        return tuple(given.layout.index(axis) for axis in self.layout or given.layout)

    def check(self, given: TensorType) -> TensorType:
        """The permuted shape; colour order survives where the layout stays known."""
        if (self.layout is None) == (self.perm is None):
            raise self.fail('"transpose" needs either "layout" or "perm"')
        if self.layout and not given.is_image:
            raise self.fail(f"{given} is no image, so it has no layout to change", "layout", 'use "perm"')
        order = self.order(given)
        if sorted(order) != list(range(given.rank)) or order[0] != 0:
            raise self.fail(
                f"{list(order)} does not reorder the {given.rank} axes of {given} with the batch first", "perm"
            )
        layout = "".join(given.layout[axis] for axis in order) if given.is_image else ""
        known = layout in ("NHWC", "NCHW")
        return replace(
            given,
            shape=tuple(given.shape[axis] for axis in order),
            layout=layout if known else "",
            channels=given.channels if known else "",
        )

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Transpose, none where the order already holds."""
        import tensorflow as tf

        order = self.order(given)
        return x if order == tuple(range(given.rank)) else tf.transpose(x, order)

    def keeps_places(self, given: TensorType) -> bool:
        """Rows and columns stay behind each other, or change places."""
        return self._axes(given) in ("HW", "WH")

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move | None:
        """Rows become columns where the image is kept width first."""
        return turned(size, (True, False, False)) if self._axes(given) == "WH" else None

    def _axes(self, given: TensorType) -> str:
        """The order of H and W after this step; "" where they are unknown, or C stands between them."""
        if not given.is_image:
            return ""
        order = "".join(given.layout[axis] for axis in self.order(given))
        return {"NHWC": "HW", "NCHW": "HW", "NWHC": "WH"}.get(order, "")


@dataclass(frozen=True)
class Reshape(Step):
    """Give each item of the batch another shape; the batch axis stays.

    in:  any dtype and shape
    out: the same values in `shape` (without the batch axis; one −1 is worked out)
    """

    op: ClassVar[str] = "reshape"
    properties: ClassVar[Mapping[str, Schema]] = {
        "shape": {
            "description": "Shape of one item, without the batch axis; one entry may be -1.",
            "type": "array",
            "items": {"type": "integer", "minimum": -1, "not": {"const": 0}},
        },
    }
    required: ClassVar[tuple[str, ...]] = ("shape",)

    shape: tuple[int, ...]

    def check(self, given: TensorType) -> TensorType:
        """The new shape; an image stays one where its last axes are kept."""
        item, holes = given.shape[1:], self.shape.count(-1)
        if holes > 1:
            raise self.fail(f"{list(self.shape)} has {holes} entries of -1, and one is the most", "shape")
        wanted = math.prod(d for d in self.shape if d != -1)
        new: tuple[int | None, ...] = tuple(None if d == -1 else d for d in self.shape)
        if None not in item:
            count = math.prod(d for d in item if d is not None)
            if (count % wanted) if holes else count != wanted:
                raise self.fail(f"{list(self.shape)} does not hold the {count} values of {given}", "shape")
            new = tuple(count // wanted if d == -1 else d for d in self.shape)
        is_same_image = given.layout == "NHWC" and len(new) == 3 and new[2] == given.shape[3]
        return replace(
            given,
            shape=(given.shape[0], *new),
            layout="NHWC" if is_same_image else "",
            channels=given.channels if is_same_image else "",
        )

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Reshape; the batch size is read from the tensor where it is open beside an open axis."""
        import tensorflow as tf

        batch: Any = given.shape[0]
        if batch is None:
            batch = tf.shape(x)[0] if -1 in self.shape else -1
        return tf.reshape(x, [batch, *self.shape])

    def keeps_places(self, given: TensorType) -> bool:
        """Only a reshape that changes nothing does."""
        return given.shape[1:] == self.shape
