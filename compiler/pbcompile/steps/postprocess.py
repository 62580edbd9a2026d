"""Steps after the model: probabilities, decisions, labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.errors import Problem, SpecError
from pbcompile.steps.base import NUMBER, POSITIVE, PartsStep, Schema, Step
from pbcompile.steps.placement import ImageInput, Parts, Placed
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf
    from typing_extensions import Self


LABELS: Schema = {
    "description": "A UTF-8 file with one name per line, or a list of names.",
    "type": ["string", "array"],
    "items": {"type": "string"},
    "minItems": 1,
}


@dataclass(frozen=True)
class Softmax(Step):
    """exp(x) / sum(exp(x)) along the last axis.

    in:  float, any shape of rank 2 or more
    out: the same type, 0..1
    """

    op: ClassVar[str] = "softmax"

    def check(self, given: TensorType) -> TensorType:
        """The same shape, 0..1."""
        _require_float(self, given)
        return replace(given, range=(0.0, 1.0))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Softmax."""
        import tensorflow as tf

        return tf.nn.softmax(x)


@dataclass(frozen=True)
class Sigmoid(Step):
    """1 / (1 + exp(−x)).

    in:  float, any shape
    out: the same type, 0..1
    """

    op: ClassVar[str] = "sigmoid"

    def check(self, given: TensorType) -> TensorType:
        """The same shape, 0..1."""
        _require_float(self, given)
        return replace(given, range=(0.0, 1.0))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One Sigmoid."""
        import tensorflow as tf

        return tf.sigmoid(x)


@dataclass(frozen=True)
class Argmax(Step):
    """Index of the largest value along an axis; the first one where several are equal.

    in:  any numeric dtype, rank 2 or more
    out: int64, without that axis
    """

    op: ClassVar[str] = "argmax"
    properties: ClassVar[Mapping[str, Schema]] = {
        "axis": {
            "description": "Axis to search along; negative counts from the end.",
            "type": "integer",
            "default": -1,
        },
    }

    axis: int = -1

    def check(self, given: TensorType) -> TensorType:
        """int64 of the shape without the axis."""
        axis = self.axis + given.rank if self.axis < 0 else self.axis
        if not 0 < axis < given.rank:
            raise self.fail(f"axis {self.axis} is none of the axes after the batch of {given}", "axis")
        shape = given.shape[:axis] + given.shape[axis + 1 :]
        count = given.shape[axis]
        return TensorType("int64", shape, range=None if count is None else (0, count - 1))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One ArgMax."""
        import tensorflow as tf

        return tf.argmax(x, axis=self.axis)


@dataclass(frozen=True)
class Threshold(Step):
    """1 where the value is above the threshold, else 0.

    in:  float, any shape
    out: uint8, the same shape
    """

    op: ClassVar[str] = "threshold"
    properties: ClassVar[Mapping[str, Schema]] = {
        "value": {**NUMBER, "description": "Values above this one give 1.", "default": 0.5},
    }

    value: float = 0.5

    def check(self, given: TensorType) -> TensorType:
        """uint8, 0..1."""
        _require_float(self, given)
        return replace(given, dtype="uint8", range=(0, 1))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Greater and Cast."""
        import tensorflow as tf

        return tf.cast(x > tf.constant(self.value, x.dtype), tf.uint8)


@dataclass(frozen=True)
class TopK(PartsStep):
    """The `k` largest values with their indices and, where given, their labels; the last step of an output.

    in:  numeric, rank 2: [batch, classes]
    out: `<name>_scores` (dtype of the input), `<name>_indices` (int32) and, with labels, `<name>_labels` (string),
         each [batch, k], largest first, the lower index first where scores are equal (tf.math.top_k)
    """

    op: ClassVar[str] = "top_k"
    properties: ClassVar[Mapping[str, Schema]] = {
        "k": {**POSITIVE, "description": "How many."},
        "labels": LABELS,
    }
    required: ClassVar[tuple[str, ...]] = ("k",)

    k: int
    labels: str | tuple[str, ...] | None = None
    label_names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], pointer: str, folder: Path) -> Self:
        """Read the labels, if they are a file."""
        labels = values.get("labels")
        names = label_names(labels, f"{pointer}/labels", folder)
        if names and values["k"] > len(names):
            raise SpecError(
                Problem("step-type-mismatch", f"k is {values['k']}, and there are {len(names)} labels", f"{pointer}/k")
            )
        return cls(
            k=values["k"],
            labels=tuple(labels) if isinstance(labels, list) else labels,
            label_names=names,
            pointer=pointer,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Suffixes of the outputs this step gives."""
        return ("labels", "scores", "indices") if self.labels else ("scores", "indices")

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """The parts, whatever is given."""
        return self.parts

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """The type of each part."""
        x = self.only(given)
        if x.rank != 2:
            raise self.fail(f"top_k takes [batch, classes], and is given {x}")
        classes = x.shape[1]
        if classes is not None and self.k > classes:
            raise self.fail(f"k is {self.k}, and there are {classes} classes", "k")
        if classes is not None and self.label_names and len(self.label_names) != classes:
            raise self.fail(f"there are {len(self.label_names)} labels and {classes} classes", "labels")
        shape = (x.shape[0], self.k)
        types = {
            "labels": TensorType("string", shape),
            "scores": TensorType(x.dtype, shape, range=x.range),
            "indices": TensorType("int32", shape, range=None if classes is None else (0, classes - 1)),
        }
        return {part: types[part] for part in self.parts}

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """TopKV2 and, for labels, one GatherV2 from a constant of strings."""
        import tensorflow as tf

        scores, indices = tf.math.top_k(x[""], self.k)
        parts = {"scores": scores, "indices": indices}
        if self.label_names:
            parts["labels"] = tf.gather(tf.constant([name.encode() for name in self.label_names]), indices)
        return {part: parts[part] for part in self.parts}


def label_names(labels: Any, pointer: str, folder: Path) -> tuple[str, ...]:
    """The names that a `labels` key stands for: a file of them, a list, or nothing."""
    return read_labels(folder / labels, pointer) if isinstance(labels, str) else tuple(labels or ())


def read_labels(path: Path, pointer: str) -> tuple[str, ...]:
    """The lines of a UTF-8 label file, without the empty ones at its end; SpecError when it is none."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise SpecError(Problem("file-missing", f"there is no file {path}", pointer)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(Problem("file-unreadable", f"{path} is no UTF-8 text: {error}", pointer)) from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise SpecError(Problem("file-unreadable", f"{path} holds no labels", pointer))
    return tuple(line.strip() for line in lines)


def _require_float(step: Step, given: TensorType) -> None:
    if not given.is_float:
        raise step.fail(f'"{step.op}" takes floats, and is given {given}')
