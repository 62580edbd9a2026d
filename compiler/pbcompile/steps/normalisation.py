"""Steps that scale and shift: rescale, mean, normalisation, and Keras's own `preprocess_input`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, ClassVar
from zipfile import BadZipFile

from pbcompile.errors import Problem, SpecError
from pbcompile.steps.base import NUMBERS, Schema, Step, as_numbers
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import tensorflow as tf
    from typing_extensions import Self

Range = tuple[float, float] | None


def along_channels(values: tuple[float, ...], given: TensorType, dtype: str = "float32") -> npt.NDArray[Any]:
    """`values` as an array that broadcasts along the channel axis of `given`."""
    import numpy as np  # late, here as below: `check` and `--help` need none of it

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
        return cls(mean=mean, image=read_npy(folder / mean, f"{pointer}/mean"), pointer=pointer)

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


NOT_AN_ARRAY = (ValueError, TypeError, OSError, EOFError, SyntaxError, MemoryError, TokenError, BadZipFile)
"""What NumPy raises over bytes that are no array."""


def read_npy(path: Path, pointer: str) -> npt.NDArray[np.float32]:
    """The numbers in a `.npy` file as float32; SpecError at `pointer` when it holds none."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise SpecError(Problem("file-missing", f"there is no file {path}", pointer)) from None
    except NOT_AN_ARRAY as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpecError(Problem("file-unreadable", f"{path} is no .npy array of numbers: {first}", pointer)) from None
    if isinstance(array, np.ndarray) and array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            numbers = array.astype(np.float32)
        if np.isfinite(numbers).all():
            return numbers
    raise SpecError(Problem("file-unreadable", f"{path} is no .npy array of finite float32 numbers", pointer))


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
