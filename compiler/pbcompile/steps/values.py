"""Steps on the values of a tensor: casting, scaling, normalising, clipping, rounding, and its axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from pbcompile.errors import Problem, SpecError
from pbcompile.steps.base import NUMBER, NUMBERS, Schema, Step, as_numbers
from pbcompile.tensor_type import INTEGER_RANGE, TensorType

if TYPE_CHECKING:
    import tensorflow as tf
    from typing_extensions import Self

Range = tuple[float, float] | None

DTYPES = ("uint8", "uint16", "int8", "int32", "int64", "float16", "float32", "float64")


def along_channels(values: tuple[float, ...], given: TensorType, dtype: str = "float32") -> npt.NDArray[Any]:
    """`values` as an array that broadcasts along the channel axis of `given`."""
    array = np.asarray(values, dtype)
    if array.size == 1:
        return array.reshape(())
    return array.reshape([-1 if axis == given.channel_axis else 1 for axis in range(given.rank)])


def _affine_range(given: Range, scale: tuple[float, ...], offset: tuple[float, ...]) -> Range:
    if given is None:
        return None
    ends = [v * s + o for v in given for s in scale for o in offset]
    if len(scale) == len(offset):
        ends = [v * s + o for v in given for s, o in zip(scale, offset, strict=True)]
    return (min(ends), max(ends))


def to_float(x: tf.Tensor) -> tf.Tensor:
    """`x` as float32; float64 is narrowed, since every float step computes in float32."""
    import tensorflow as tf

    return x if x.dtype == tf.float32 else tf.cast(x, tf.float32)


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
class Rescale(Step):
    """Multiply by a number and add one: x · scale + offset in float32, rounded after each operation.

    in:  any numeric dtype and shape
    out: float32, the same shape
    """

    op: ClassVar[str] = "rescale"
    properties: ClassVar[Mapping[str, Schema]] = {
        "scale": {**NUMBERS, "description": "Factor: one number, or one per channel."},
        "offset": {**NUMBERS, "description": "Added after the factor: one number, or one per channel.", "default": 0},
    }
    required: ClassVar[tuple[str, ...]] = ("scale",)

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...] = 0.0

    def check(self, given: TensorType) -> TensorType:
        """float32 of the same shape."""
        scale, offset = as_numbers(self.scale), as_numbers(self.offset)
        self.require_per_channel(given, scale, "scale")
        self.require_per_channel(given, offset, "offset")
        return replace(given, dtype="float32", range=_affine_range(given.range, scale, offset))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Mul and AddV2; an offset of zero emits nothing."""
        x = to_float(x) * along_channels(as_numbers(self.scale), given)
        return x + along_channels(as_numbers(self.offset), given) if any(as_numbers(self.offset)) else x


@dataclass(frozen=True)
class SubtractMean(Step):
    """Subtract a mean in float32.

    in:  any numeric dtype; with a mean image the height, width and channels of that image
    out: float32, x − mean
    """

    op: ClassVar[str] = "subtract_mean"
    properties: ClassVar[Mapping[str, Schema]] = {
        "mean": {
            "description": "One number, one per channel, or the path of a .npy of the image's shape.",
            "type": ["number", "array", "string"],
            "items": {"type": "number"},
            "minItems": 1,
        },
    }
    required: ClassVar[tuple[str, ...]] = ("mean",)

    mean: float | tuple[float, ...] | str
    image: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], pointer: str, folder: Path) -> Self:
        """Read the mean image, if the mean is a path."""
        mean = values["mean"]
        if not isinstance(mean, str):
            return super().from_json(values, pointer, folder)
        return cls(mean=mean, image=_read_npy(folder / mean, f"{pointer}/mean"), pointer=pointer)

    def check(self, given: TensorType) -> TensorType:
        """float32 of the same shape."""
        if self.image is None:
            means = as_numbers(self.mean)  # type: ignore[arg-type]
            self.require_per_channel(given, means, "mean")
            return replace(given, dtype="float32", range=_affine_range(given.range, (1.0,), tuple(-m for m in means)))
        wanted = given.shape[1:]
        fits = len(wanted) == self.image.ndim and all(
            w in (None, h) for w, h in zip(wanted, self.image.shape, strict=False)
        )
        if not fits:
            raise self.fail(
                f"the mean image {self.mean} has shape {list(self.image.shape)}, and the tensor here is {given}",
                "mean",
            )
        known = given.range and (given.range[0] - float(self.image.max()), given.range[1] - float(self.image.min()))
        return replace(given, dtype="float32", shape=(given.shape[0], *self.image.shape), range=known)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Sub."""
        mean = along_channels(as_numbers(self.mean), given) if self.image is None else self.image  # type: ignore[arg-type]
        return to_float(x) - mean


def _read_npy(path: Path, pointer: str) -> npt.NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise SpecError(Problem("file-missing", f"there is no file {path}", pointer)) from None
    except (ValueError, OSError, EOFError) as error:
        raise SpecError(Problem("file-unreadable", f"{path} is no .npy array of numbers: {error}", pointer)) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise SpecError(Problem("file-unreadable", f"{path} is no .npy array of finite numbers", pointer))
    return array.astype(np.float32)


@dataclass(frozen=True)
class Normalize(Step):
    """Subtract the mean and divide by the standard deviation, per channel, in float32.

    in:  any numeric dtype, any range
    out: float32 of the same shape, (x − mean) / std, rounded after each operation
    """

    op: ClassVar[str] = "normalize"
    properties: ClassVar[Mapping[str, Schema]] = {
        "mean": {**NUMBERS, "description": "Mean: one number, or one per channel."},
        "std": {
            **NUMBERS,
            "description": "Standard deviation: one number above zero, or one per channel.",
            "items": {"type": "number", "exclusiveMinimum": 0},
            "exclusiveMinimum": 0,
        },
    }
    required: ClassVar[tuple[str, ...]] = ("mean", "std")

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def check(self, given: TensorType) -> TensorType:
        """float32 of the same shape."""
        mean, std = as_numbers(self.mean), as_numbers(self.std)
        self.require_per_channel(given, mean, "mean")
        self.require_per_channel(given, std, "std")
        known = given.range
        if known is not None:
            ends = [(v - m) / s for v in known for m in mean for s in std]
            known = (min(ends), max(ends))
        return replace(given, dtype="float32", range=known)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Sub and RealDiv; the passes turn the division into a factor of the next weights."""
        return (to_float(x) - along_channels(as_numbers(self.mean), given)) / along_channels(
            as_numbers(self.std), given
        )


@dataclass(frozen=True)
class Standardize(Step):
    """Give every image zero mean and unit variance, as `tf.image.per_image_standardization`.

    in:  an image of any numeric dtype
    out: float32, (x − mean) / max(stddev, 1/sqrt(number of values)), over height, width and channels of each image
    """

    op: ClassVar[str] = "standardize"

    def check(self, given: TensorType) -> TensorType:
        """float32 of the same shape; the range is no longer known."""
        self.require_image(given)
        return replace(given, dtype="float32", range=None)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """The ops of `tf.image.per_image_standardization` itself."""
        import tensorflow as tf

        return tf.image.per_image_standardization(to_float(x))


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


_CAFFE_MEAN = (103.939, 116.779, 123.68)  # ImageNet means, BGR: keras/src/applications/imagenet_utils.py
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class KerasApplications(Step):
    """Exactly `keras.applications.imagenet_utils.preprocess_input` of one mode.

    in:  image, RGB, 0..255
    out: float32; caffe: BGR minus the ImageNet means; tf: x / 127.5 − 1; torch: (x / 255 − mean) / std, RGB
    """

    op: ClassVar[str] = "keras_applications"
    properties: ClassVar[Mapping[str, Schema]] = {
        "mode": {
            "description": "caffe: VGG, ResNet. tf: MobileNet, Inception, Xception, NASNet, ResNetV2. torch: DenseNet.",
            "enum": ["caffe", "tf", "torch"],
        },
    }
    required: ClassVar[tuple[str, ...]] = ("mode",)

    mode: str

    def check(self, given: TensorType) -> TensorType:
        """float32; caffe also turns the channels round."""
        if not given.is_image:
            raise self.fail(f"preprocess_input takes an image, and is given {given}")
        if given.channels != "RGB":
            raise self.fail(
                f"preprocess_input takes RGB, and the channels at this step are {given.channels or 'not known'}",
                hint='put {"op": "convert_color", "to": "RGB"} before it'
                if given.channels
                else 'say "channels" of the input',
            )
        if given.range is not None and given.range[1] <= 1.0:
            raise self.fail(
                f"preprocess_input takes 0..255, and the values here are {given.range[0]}..{given.range[1]}"
            )
        low, high = given.range or (0.0, 255.0)
        if self.mode == "caffe":
            known = (low - max(_CAFFE_MEAN), high - min(_CAFFE_MEAN))
        elif self.mode == "tf":
            known = (low / 127.5 - 1, high / 127.5 - 1)
        else:
            pairs = list(zip(_TORCH_MEAN, _TORCH_STD, strict=True))
            known = (min((low / 255 - m) / s for m, s in pairs), max((high / 255 - m) / s for m, s in pairs))
        return replace(
            given,
            dtype="float32",
            channels="BGR" if self.mode == "caffe" else "RGB",
            range=known if given.range else None,
        )

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """The operations of imagenet_utils in their order, so that every rounding is the same."""
        import tensorflow as tf

        x = to_float(x)
        if self.mode == "tf":
            return x / 127.5 - 1.0
        if self.mode == "torch":
            x = x / 255.0
            return (x - along_channels(_TORCH_MEAN, given)) / along_channels(_TORCH_STD, given)
        return tf.reverse(x, [given.channel_axis]) - along_channels(_CAFFE_MEAN, given)
