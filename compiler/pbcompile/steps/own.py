"""A step of the user's own: TensorFlow ops built by their function, checked against their reference."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.errors import Problem, SpecError
from pbcompile.steps.base import Schema, Step
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf
    from typing_extensions import Self

NAME: Schema = {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"}
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
"""Calls of functions are inlined when the graph is frozen, and what they hold is looked at then."""


@dataclass(frozen=True)
class Python(Step):
    """Ops built by a function of your own; only with `trust_code`, which the model's object says.

    in:  any tensor
    out: what the function makes of it: the type that is given, but for `dtype` and `shape`.  It must be built from ops
         without state, files or Python, and leave pixels where they are if a later step goes back to them.
         `function(x)` gets a symbolic tensor and returns one; `reference(x)` gets and returns the NumPy array, batch
         included, and the gate compares the two.  Both are looked for beside the spec first.
    """

    op: ClassVar[str] = "python"
    properties: ClassVar[Mapping[str, Schema]] = {
        "function": {**NAME, "description": "Builds the TensorFlow ops, as package.module:name."},
        "reference": {**NAME, "description": "The same in NumPy, as package.module:name; the gate runs it."},
        "dtype": {
            "description": "The dtype that comes out; left out: the one that goes in.",
            "enum": ["uint8", "uint16", "int8", "int32", "int64", "float16", "float32", "float64"],
        },
        "shape": {
            "description": "Shape of one item that comes out, without the batch; null is any size.  Left out: as it "
            "goes in.",
            "type": "array",
            "items": {"type": ["integer", "null"], "minimum": 1},
        },
    }
    required: ClassVar[tuple[str, ...]] = ("function", "reference")

    function: str
    reference: str
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    folder: Path = field(default=Path(), compare=False, repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], pointer: str, folder: Path) -> Self:
        """Remember where the spec is; nothing is imported yet."""
        return replace(super().from_json(values, pointer, folder), folder=folder)

    def check(self, given: TensorType) -> TensorType:
        """The promised type; `emit` holds the function to it."""
        shape = given.shape if self.shape is None else (given.shape[0], *self.shape)
        is_same_image = given.layout == "NHWC" and len(shape) == 4
        has_channels = is_same_image and shape[3] == given.shape[3]
        return TensorType(
            self.dtype or given.dtype,
            shape,
            given.layout if is_same_image or shape == given.shape else "",
            given.channels if has_channels or shape == given.shape else "",
        )

    def keeps_places(self, given: TensorType) -> bool:
        """Where the size stays."""
        return self.check(given).shape[1:-1] == given.shape[1:-1] and given.rank == len(self.check(given).shape)

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """Whatever the function builds; SpecError where the spec promises another type or no artifact may hold it."""
        import tensorflow as tf

        function = self.load("function")
        before = {operation.name for operation in x.graph.get_operations()}
        made = function(x)
        if not tf.is_tensor(made):
            raise self.fail(f'"{self.function}" returned {type(made).__name__}, and must return one tensor', "function")
        for operation in x.graph.get_operations():
            is_stateful = operation.op_def is not None and operation.op_def.is_stateful and operation.type not in CALLS
            if operation.name not in before and (is_stateful or "PyFunc" in operation.type):
                message = f'"{self.function}" builds a {operation.type}, an op with state, files or Python in it'
                raise self.fail(message, "function", "an artifact holds pure TensorFlow ops only")
        wanted = self.check(given)
        if made.dtype != wanted.dtype or not made.shape.is_compatible_with(wanted.shape):
            said = f"{made.dtype.name} {made.shape}"
            hint = 'say "dtype" and "shape" of what it returns'
            raise self.fail(f'"{self.function}" returned {said}, and the spec promises {wanted}', "function", hint)
        made.set_shape(wanted.shape)
        return made

    def load(self, key: str) -> Callable[[Any], Any]:
        """The function that `key` names, imported.  SpecError where it cannot be."""
        path: str = getattr(self, key)
        module, _, attribute = path.partition(":")
        try:
            with _importable(self.folder):
                found = importlib.import_module(module)
                for name in attribute.split("."):
                    found = getattr(found, name)
        except (ImportError, AttributeError) as error:
            hint = "written as module:attribute, importable from here or from beside the spec"
            raise SpecError(
                Problem("code-not-found", f'"{path}" cannot be imported: {error}', f"{self.pointer}/{key}", hint)
            ) from None
        if not callable(found):
            raise self.fail(f'"{path}" is no function', key)
        return found

    def exactness(self, given: TensorType) -> str:
        """As the reference says."""
        return f"compared with {self.reference}"


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules beside the spec can be imported meanwhile."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
