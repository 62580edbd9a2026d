"""From JSON text to a `Spec`: schema first, then everything that the spec alone decides.  No TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pbcompile.errors import Problem, SpecError
from pbcompile.spec.formula import Formula, FormulaError, parse_formula
from pbcompile.spec.schema import find_problems
from pbcompile.spec.spec import InputSpec, ModelSource, OutputSpec, Spec, VerifySpec
from pbcompile.spec.text import JsonText, escape, read_json
from pbcompile.steps import POST_STEPS, STEPS, Step
from pbcompile.steps.base import PartsStep
from pbcompile.steps.camera import CAMERA, camera_types
from pbcompile.steps.own import Python
from pbcompile.tensor_type import CHANNEL_COUNT, INTEGER_RANGE, Dims, TensorType

T = TypeVar("T")
RESERVED = "pbcompile/contract"


def load_spec(path: str | Path) -> Spec:
    """Read, validate and build a spec.

    Raises SpecError with every problem found, each located in the file.
    """
    text = read_json(Path(path))
    problems = [text.locate(problem, at_key=at_key) for problem, at_key in find_problems(text.document)]
    if problems:
        raise SpecError(*problems)
    with text.locating():
        return _Builder(text, Path(path)).build()


class _Builder:
    """Builds the parts of a spec and collects the problems of all of them."""

    def __init__(self, text: JsonText, path: Path) -> None:
        self.document: Mapping[str, Any] = text.document
        self.text = text
        self.path = path
        self.folder = path.parent
        self.problems: list[Problem] = []

    def build(self) -> Spec:
        document = self.document
        model = self.attempt(self.model)
        inputs = [self.attempt(self.input, name, value) for name, value in document["inputs"].items()]
        outputs = [self.attempt(self.output, name, value) for name, value in document.get("outputs", {}).items()]
        self.check_names([item for item in outputs if item])
        if "mode" in document.get("quantize", {}):
            message = "this version of pbcompile stores weights in fewer bits, but does not compute with integers"
            hint = 'use {"weights": "int8"}, or leave it out'
            self.problems.append(Problem("not-supported", message, "/quantize/mode", hint))
        if self.problems or model is None:
            raise SpecError(*self.problems)
        artifact = document.get("artifact")
        return Spec(
            path=self.path,
            model=model,
            inputs=tuple(item for item in inputs if item),
            outputs=tuple(item for item in outputs if item),
            artifact=self.folder / artifact if artifact else self.path.with_suffix(".pb"),
            level=document.get("optimize", {}).get("level", "canonical"),
            weights=document.get("quantize", {}).get("weights", ""),
            verify=VerifySpec(**document.get("verify", {})),
            text=self.text,
        )

    def attempt(self, make: Callable[..., T], *args: Any) -> T | None:
        """`make(*args)`, or None with its problems noted."""
        try:
            return make(*args)
        except SpecError as error:
            self.problems.extend(error.problems)
            return None

    def check_names(self, outputs: list[OutputSpec]) -> None:
        """Placeholders and outputs share one namespace."""
        seen = dict.fromkeys(self.document["inputs"], "an input") | {RESERVED: "the contract"}
        for item in outputs:
            for name in emitted_names(item):
                if name in seen:
                    message = f'the output "{name}" has the name of {seen[name]}'
                    self.problems.append(Problem("name-clash", message, item.pointer))
                seen[name] = "another output"

    def model(self) -> ModelSource:
        value = self.document["model"]
        if isinstance(value, str):
            return ModelSource(self.folder / value)
        if value.get("custom_objects") and not value.get("trust_code"):
            raise SpecError(
                Problem(
                    "code-untrusted",
                    "custom_objects names Python code to run, and trust_code is not set",
                    "/model/custom_objects",
                    'add "trust_code": true to "model" if that code is yours',
                )
            )
        lambdas = {
            name: self.in_place_of_lambda(stand_in, f"/model/lambda/{escape(name)}")
            for name, stand_in in value.get("lambda", {}).items()
        }
        return ModelSource(
            path=self.folder / value["path"],
            weights=self.folder / value["weights"] if "weights" in value else None,
            lambdas=lambdas,
            custom_objects=value.get("custom_objects", {}),
            trust_code=value.get("trust_code", False),
            allow_nan=value.get("allow_nan", False),
        )

    def in_place_of_lambda(self, value: Any, pointer: str) -> tuple[Step, ...] | Formula:
        if not isinstance(value, str):
            return tuple(self.steps(value, pointer, STEPS))
        try:
            return parse_formula(value)
        except FormulaError as error:
            hint = 'such as "K.abs(x[0] - x[1])", where x is what the layer is fed'
            raise SpecError(
                Problem("formula-invalid", f"{value[:60]!r} is no formula: {error}", pointer, hint)
            ) from None

    def steps(self, values: list[Mapping[str, Any]], pointer: str, known: tuple[type[Step], ...]) -> Iterator[Step]:
        by_op = {step.op: step for step in known}
        model = self.document["model"]
        is_trusted = isinstance(model, dict) and model.get("trust_code", False)
        for index, value in enumerate(values):
            step = by_op[value["op"]].from_json(value, f"{pointer}/{index}", self.folder)
            if isinstance(step, Python) and not is_trusted:
                message = f'"{step.function}" is Python code to run, and trust_code is not set'
                hint = 'add "trust_code": true to "model" if that code is yours'
                raise SpecError(Problem("code-untrusted", message, f"{step.pointer}/function", hint))
            yield step

    def input(self, name: str, value: Mapping[str, Any]) -> InputSpec:
        pointer = f"/inputs/{escape(name)}"
        kind = value.get("kind", "pixels")
        fed, entry = _ENTRIES[kind](value, pointer)
        steps = tuple(self.steps(value.get("preprocess", []), f"{pointer}/preprocess", STEPS))
        types, given = [], entry
        for step in steps:
            given = step.check(given)
            types.append(given)
        if kind == "encoded" and fed.rank == 1 and None in given.shape[1:]:
            raise SpecError(
                Problem(
                    "step-type-mismatch",
                    f"the images of a vector have different sizes, and after the last step they still do ({given})",
                    f"{pointer}/preprocess" if "preprocess" in value else pointer,
                    'add a "resize" with a fixed "size"',
                )
            )
        return InputSpec(
            name=name,
            kind=kind,
            fed=fed,
            entry=entry,
            channels=value.get("channels", ""),
            exif=value.get("exif", "ignore" if value.get("like") == "pillow" else "apply"),
            like=value.get("like", "opencv"),
            feeds=value.get("feeds"),
            preprocess=steps,
            types=tuple(types),
            pointer=pointer,
        )

    def output(self, name: str, value: Mapping[str, Any]) -> OutputSpec:
        pointer = f"/outputs/{escape(name)}"
        steps = tuple(self.steps(value.get("postprocess", []), f"{pointer}/postprocess", POST_STEPS))
        source = value.get("from")
        sources = tuple(source) if isinstance(source, list) else (source,) if source else ()
        output = OutputSpec(name, sources, steps, pointer, value.get("source"))
        if output.is_joined and not (steps and isinstance(steps[0], PartsStep)):
            message = f"{len(sources)} outputs of the model need a step that makes one answer of them"
            raise SpecError(Problem("step-type-mismatch", message, f"{pointer}/from", 'such as "decode_boxes"'))
        for index, step in enumerate(steps):
            given = emitted_parts(output, index)
            if given != ("",) and not isinstance(step, PartsStep):
                said = f"{len(given)} tensors: {', '.join(given)}"
                raise step.fail(f'"{step.op}" takes one tensor, and the step before it gives {said}', "op")
        return output


def emitted_parts(output: OutputSpec, count: int | None = None) -> tuple[str, ...]:
    """Names of the parts behind the first `count` steps of an output, or behind all."""
    names = output.sources if output.is_joined else ("",)
    for step in output.postprocess[:count]:
        names = step.names(names) if isinstance(step, PartsStep) else ("",)
    return names


def emitted_names(output: OutputSpec) -> tuple[str, ...]:
    """Names of the nodes that an output stands for: its own, or one per part that its steps make."""
    return tuple(f"{output.name}_{part}" if part else output.name for part in emitted_parts(output))


def _refuse(value: Mapping[str, Any], kind: str, keys: tuple[str, ...], pointer: str) -> None:
    """Keys that mean nothing for this kind of input are errors: silence would hide a misunderstanding."""
    for key in keys:
        if key in value:
            raise SpecError(Problem("key-unused", f'"{key}" means nothing for kind "{kind}"', f"{pointer}/{key}"))


def _pixels(value: Mapping[str, Any], pointer: str) -> tuple[TensorType, TensorType]:
    """Types of a fed array of samples and of the channels-last batch the steps see."""
    _refuse(value, "pixels", ("exif", "like"), pointer)
    dtype, layout = value.get("dtype", "uint8"), value.get("layout", "NHWC")
    channels, shape = value.get("channels", ""), value.get("shape")
    if channels in CAMERA:
        return camera_types(channels, dtype, shape, layout, pointer)
    if not channels and shape is None:
        hint = 'say which colours are fed: "channels": "RGB", "BGR", "GRAY", ...'
        raise SpecError(Problem("spec-invalid", 'an input of pixels needs "channels" or "shape"', pointer, hint))
    count = CHANNEL_COUNT.get(channels)
    if shape is None:
        shape = [None, count, None, None] if layout == "NCHW" else [None, None, None, count]
    if len(shape) not in (3, 4):
        message = f"pixels have 3 or 4 sizes, and here are {len(shape)}"
        raise SpecError(Problem("spec-invalid", message, f"{pointer}/shape", "batch, height, width, channels"))
    shape = list(shape)
    index = layout.index("C") - (4 - len(shape))
    if count is not None and shape[index] not in (None, count):
        message = f"{channels} has {count} channel{'s' if count > 1 else ''}, and the shape says {shape[index]}"
        raise SpecError(Problem("spec-invalid", message, f"{pointer}/shape/{index}"))
    shape[index] = count or shape[index]
    channels = channels or ("GRAY" if shape[index] == 1 else "")
    known = INTEGER_RANGE.get(dtype)
    fed = TensorType(dtype, tuple(shape), layout if len(shape) == 4 else layout[1:], channels, known)
    batched: Dims = tuple(shape) if len(shape) == 4 else (1, *shape)
    entry = TensorType(dtype, tuple(batched[layout.index(axis)] for axis in "NHWC"), "NHWC", channels, known)
    return fed, entry


def _encoded(value: Mapping[str, Any], pointer: str) -> tuple[TensorType, TensorType]:
    """Types of the string or strings that are fed and of the decoded batch."""
    _refuse(value, "encoded", ("dtype", "layout"), pointer)
    shape, channels = value.get("shape", []), value.get("channels")
    if len(shape) > 1:
        message = f"encoded images are a scalar or a vector of strings, and the shape has {len(shape)} sizes"
        raise SpecError(Problem("spec-invalid", message, f"{pointer}/shape", "use [] or [null]"))
    if channels not in ("RGB", "BGR", "GRAY"):
        message = "an encoded input needs" if channels is None else f"the decoder makes no {channels}; it needs"
        where = pointer if channels is None else f"{pointer}/channels"
        raise SpecError(Problem("spec-invalid", f'{message} "channels": "RGB", "BGR" or "GRAY"', where))
    batch = shape[0] if shape else 1
    entry = TensorType("uint8", (batch, None, None, CHANNEL_COUNT[channels]), "NHWC", channels, (0, 255))
    return TensorType("string", tuple(shape)), entry


def _tensor(value: Mapping[str, Any], pointer: str) -> tuple[TensorType, TensorType]:
    """Types of numbers that are no image; the first size is the batch."""
    _refuse(value, "tensor", ("exif", "like", "channels", "layout"), pointer)
    if not value.get("shape"):
        hint = "the first size is the batch: [null, 10]"
        raise SpecError(Problem("spec-invalid", 'an input of kind "tensor" needs its "shape"', pointer, hint))
    dtype = value.get("dtype", "float32")
    fed = TensorType(dtype, tuple(value["shape"]), range=INTEGER_RANGE.get(dtype))
    return fed, fed


_ENTRIES: Mapping[str, Callable[[Mapping[str, Any], str], tuple[TensorType, TensorType]]] = {
    "pixels": _pixels,
    "encoded": _encoded,
    "tensor": _tensor,
}
