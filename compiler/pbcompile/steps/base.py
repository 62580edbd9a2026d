"""What a step is: frozen data with a type rule (`check`, no TensorFlow) and an emitter (`emit`, TensorFlow ops)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.errors import Problem, SpecError
from pbcompile.steps.placement import Extent, ImageInput, Move, Parts, Placed
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf
    from typing_extensions import Self

Schema = Mapping[str, Any]
"""A JSON Schema fragment."""


@dataclass(frozen=True)
class Step:
    """One entry of `preprocess` or `postprocess`: comparable, printable, without state.

    A subclass names its JSON keys as dataclass fields, says their schema in `properties`, which of them must be
    there in `required`, and documents itself as

        in:  dtype, shape, range that it takes
        out: dtype, shape, range that it gives, with the formula

    `emit` receives the type that `check` saw, so that sizes known in the spec become constants in the graph.
    """

    op: ClassVar[str]
    properties: ClassVar[Mapping[str, Schema]] = {}
    required: ClassVar[tuple[str, ...]] = ()

    pointer: str = field(default="", compare=False, repr=False, kw_only=True)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], pointer: str, folder: Path) -> Self:
        """The step that the schema-valid object `values` (without `op`) describes; paths are relative to `folder`."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: _frozen(value) for key, value in values.items() if key in known}, pointer=pointer)

    def check(self, given: TensorType) -> TensorType:
        """The type after this step, or SpecError at the key to change."""
        raise NotImplementedError

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """TensorFlow ops for this step on `x`, which has type `given`."""
        raise NotImplementedError

    def move(self, size: tuple[Extent, Extent], given: TensorType) -> Move | None:
        """Where the pixels of an image of `size` go; None where all of them stay."""
        return None

    def keeps_places(self, given: TensorType) -> bool:
        """Whether a position behind this step has one before it, as `move` says it."""
        return True

    def exactness(self, given: TensorType) -> str:
        """Which library's numbers come out, and how near: one phrase for `check` and the reference page."""
        return "exact"

    def fail(self, message: str, key: str = "", hint: str = "") -> SpecError:
        """A SpecError at this step, or at one of its keys."""
        where = f"{self.pointer}/{key}" if key else self.pointer
        return SpecError(Problem("step-type-mismatch", message, where, hint))

    def require_image(self, given: TensorType) -> None:
        """Raise unless `given` is a channels-last image."""
        if given.layout != "NHWC":
            is_nchw = given.layout == "NCHW"
            raise self.fail(
                f'"{self.op}" takes an image as [batch, height, width, channels], and is given {given}',
                hint="transpose to NHWC before this step" if is_nchw else "",
            )

    def require_per_channel(self, given: TensorType, values: tuple[float, ...], key: str) -> None:
        """Raise unless `values` is one number, or one per channel of `given`."""
        count = given.channel_count
        if len(values) != 1 and count is not None and len(values) != count:
            raise self.fail(
                f'"{key}" has {len(values)} numbers, and the tensor at this step has {count} '
                f"channel{'s' if count != 1 else ''} ({given})",
                key,
                hint=f"give one number, or {count}",
            )


@dataclass(frozen=True)
class PartsStep(Step):
    """A postprocess step that takes or gives several tensors, or looks at an image input.

    Tensors go by the suffix of their public name ("boxes" becomes `<name>_boxes`); "" is an output's only one.  What
    comes from several outputs of the model goes by their names.
    """

    @property
    def uses_image(self) -> bool:
        """Whether `check_parts` and `emit_parts` need the image input."""
        return False

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the parts it makes of parts with these names."""
        raise NotImplementedError

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """The type of each part after this step, or SpecError at the key to change."""
        raise NotImplementedError

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """TensorFlow ops for this step; `placed` is there where `uses_image`."""
        raise NotImplementedError

    def only(self, given: Parts) -> TensorType:
        """The one tensor of `given`, or SpecError."""
        return only_part(self, given)


def only_part(step: Step, given: Parts) -> TensorType:
    """The one unnamed tensor that `step` takes; SpecError where there are several, or named ones."""
    if list(given) == [""]:
        return given[""]
    raise step.fail(f'"{step.op}" takes one tensor, and is given {", ".join(given)}', "op")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


NUMBER: Schema = {"type": "number"}
NUMBERS: Schema = {
    "description": "One number, or one per channel in the order of the channels at this step.",
    "type": ["number", "array"],
    "items": {"type": "number"},
    "minItems": 1,
}
POSITIVE: Schema = {"type": "integer", "minimum": 1}
SIZE: Schema = {
    "description": "Height and width in pixels.",
    "type": "array",
    "items": {"type": "integer", "minimum": 1},
    "minItems": 2,
    "maxItems": 2,
}


def as_numbers(value: float | tuple[float, ...]) -> tuple[float, ...]:
    """A number or a tuple of them, always as a tuple."""
    return value if isinstance(value, tuple) else (value,)
