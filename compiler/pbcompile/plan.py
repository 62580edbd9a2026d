"""What feeds what: the spec's inputs and outputs bound to the model's, with every type checked.  No TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pbcompile.errors import Problem, SpecError, did_you_mean
from pbcompile.models import ModelTensor
from pbcompile.spec import InputSpec, OutputSpec, Spec
from pbcompile.steps.base import PartsStep, Step, only_part
from pbcompile.steps.placement import ImageInput, Parts
from pbcompile.tensor_type import Dims, TensorType

T = TypeVar("T")


@dataclass(frozen=True)
class PlannedOutput:
    """One output of the spec with the model outputs it comes from.

    types:   what is there before each postprocess step, and behind the last one; `types[0]` is what the model gives.
    emitted: the nodes it stands for, by their public names, in order.
    image:   the input that its steps look at, where one does.
    """

    spec: OutputSpec
    sources: tuple[str, ...]
    types: tuple[Parts, ...]
    emitted: Mapping[str, TensorType]
    image: str | None = None

    @property
    def source(self) -> str:
        """The model's output or outputs, for people to read."""
        return ", ".join(self.sources)

    def given(self, answers: Mapping[str, T]) -> dict[str, T]:
        """The parts that go into the first step, out of all that the model gives."""
        if len(self.sources) == 1:
            return {"": answers[self.sources[0]]}
        return {name: answers[name] for name in self.sources}


@dataclass(frozen=True)
class Plan:
    """The spec and the model brought together.

    feeds:   the spec's input for each model input.
    targets: what each model input takes, by the name of the spec's input.
    """

    spec: Spec
    feeds: Mapping[str, InputSpec]
    targets: Mapping[str, ModelTensor]
    outputs: tuple[PlannedOutput, ...]

    @property
    def output_types(self) -> dict[str, TensorType]:
        """Type of every public output node, in the spec's order."""
        return {name: given for output in self.outputs for name, given in output.emitted.items()}


def make_plan(
    spec: Spec, inputs: Sequence[ModelTensor], outputs: Sequence[ModelTensor], *, is_built: bool = True
) -> Plan:
    """Bind a spec to a model with these inputs and outputs.  Raises SpecError with all problems found.

    Where the model `is_built` no further than its config, output shapes may be unknown; then only names are checked.
    """
    problems: list[Problem] = []
    feeds, targets = _bind_inputs(spec, inputs, problems)
    planned = _bind_outputs(spec, outputs, problems, is_built)
    if problems:
        raise SpecError(*problems)
    return Plan(spec, feeds, targets, planned)


def _bind_inputs(
    spec: Spec, inputs: Sequence[ModelTensor], problems: list[Problem]
) -> tuple[dict[str, InputSpec], dict[str, ModelTensor]]:
    by_name = {tensor.name: tensor for tensor in inputs}
    feeds: dict[str, InputSpec] = {}
    targets: dict[str, ModelTensor] = {}
    for item in spec.inputs:
        name = item.feeds or (item.name if item.name in by_name else None)
        if name is None and len(inputs) == 1:
            name = inputs[0].name
        if name is None:
            message = f'"{item.name}" is none of the model\'s {len(inputs)} inputs'
            hint = f'say which it feeds: "feeds": one of {", ".join(by_name)}'
            problems.append(Problem("input-unknown", message, item.pointer, hint))
        elif name not in by_name:
            message = f'the model has no input "{name}"'
            problems.append(Problem("input-unknown", message, f"{item.pointer}/feeds", did_you_mean(name, by_name)))
        elif name in feeds:
            message = f'"{feeds[name].name}" feeds the model\'s input "{name}" already'
            problems.append(Problem("input-clash", message, item.pointer))
        else:
            feeds[name], targets[item.name] = item, by_name[name]
            problems.extend(_mismatch(item, by_name[name]))
    problems.extend(_unlike_batches(list(feeds.values())))
    missing = [name for name in by_name if name not in feeds]
    if missing and not problems:
        problems.append(Problem("input-missing", f"nothing feeds the model's {_listed(missing)}", "/inputs"))
    return {name: feeds[name] for name in by_name if name in feeds}, targets


def _unlike_batches(inputs: Sequence[InputSpec]) -> Iterator[Problem]:
    """Inputs whose fixed batches differ; the graph itself compares open ones when they are fed."""
    fixed = [item for item in inputs if item.batch is not None]
    for item in fixed[1:]:
        if item.batch != fixed[0].batch:
            message = f'"{fixed[0].name}" has a batch of {fixed[0].batch}, and "{item.name}" one of {item.batch}'
            hint = "give all inputs the same first size, or null: any number of items, the same for all"
            yield Problem("batch-mismatch", message, item.pointer, hint)


def _listed(names: Sequence[str]) -> str:
    return ("input " if len(names) == 1 else "inputs ") + ", ".join(f'"{name}"' for name in names)


def _mismatch(item: InputSpec, target: ModelTensor) -> list[Problem]:
    """Why what leaves the last step is not what the model takes; empty when it is."""
    given = item.result
    if target.shape is None:
        return []
    where = item.preprocess[-1].pointer if item.preprocess else item.pointer
    wanted = f"{target.dtype} [{', '.join('?' if d is None else str(d) for d in target.shape)}]"
    said = f'the model\'s input "{target.name}" takes {wanted}, and what comes out of the last step is {given}'
    if given.rank != len(target.shape):
        return [Problem("step-type-mismatch", said, where)]
    sizes = list(enumerate(zip(given.shape, target.shape, strict=True)))
    axes = [axis for axis, (has, wants) in sizes if None not in (has, wants) and has != wants]
    if not axes:
        open_axes = [axis for axis, (has, wants) in sizes if has is None and wants is not None]
        if item.kind == "pixels" and given.layout == "NHWC" and any(axis in (1, 2) for axis in open_axes):
            hint = f'add {{"op": "resize", "size": [{target.shape[1]}, {target.shape[2]}], "method": ..., "like": ...}}'
            fixed = f'or fix the sizes in "shape": [null, {target.shape[1]}, {target.shape[2]}, {target.shape[3]}]'
            return [Problem("step-type-mismatch", said, where, f"{hint}, {fixed}")]
        return []
    hint = ""
    if given.layout == "NHWC" and tuple(given.shape[a] for a in (3, 1, 2)) == tuple(target.shape[1:]):
        hint = 'add {"op": "transpose", "layout": "NCHW"}'
    elif given.layout == "NHWC" and axes == [3]:
        hint = f'{target.shape[3]} channels: add {{"op": "convert_color", "to": ...}}'
    elif given.layout == "NHWC" and set(axes) <= {1, 2}:
        hint = f"the model wants height {target.shape[1]} and width {target.shape[2]}"
    return [Problem("step-type-mismatch", said, where, hint)]


def _bind_outputs(
    spec: Spec, outputs: Sequence[ModelTensor], problems: list[Problem], is_built: bool
) -> tuple[PlannedOutput, ...]:
    by_name = {tensor.name: tensor for tensor in outputs}
    wanted = spec.outputs or tuple(OutputSpec(name, (name,), (), "/outputs") for name in by_name)
    batch = {item.entry.shape[0] for item in spec.inputs if item.entry.rank} - {None}
    fixed = batch.pop() if len(batch) == 1 else None
    planned = []
    for item in wanted:
        sources = item.sources or (next(iter(by_name)) if len(by_name) == 1 else item.name,)
        unknown = [(index, name) for index, name in enumerate(sources) if name not in by_name]
        for index, name in unknown:
            message = f'the model has no output "{name}"'
            pointer = f"{item.pointer}/from/{index}" if item.is_joined else f"{item.pointer}/from"
            if not item.sources:
                message = f'"{item.name}" is none of the model\'s {len(by_name)} outputs, and "from" is missing'
                pointer = item.pointer
            hint = "its outputs: " + ", ".join(by_name) if len(by_name) <= 8 else did_you_mean(name, by_name)
            problems.append(Problem("output-unknown", message, pointer, hint))
        if unknown:
            continue
        if any(by_name[name].shape is None for name in sources) and not is_built:
            planned.append(PlannedOutput(item, sources, (), {}))
            continue
        try:
            planned.append(_plan_output(item, {name: by_name[name] for name in sources}, fixed, spec.inputs))
        except SpecError as error:
            problems.extend(error.problems)
    return tuple(planned)


def _plan_output(
    item: OutputSpec, tensors: Mapping[str, ModelTensor], batch: int | None, inputs: Sequence[InputSpec]
) -> PlannedOutput:
    given: Parts = {name if item.is_joined else "": _given_type(item, t, batch) for name, t in tensors.items()}
    types, image = [given], None
    for step in item.postprocess:
        if isinstance(step, PartsStep):
            image = image or (_image_of(item, step, inputs) if step.uses_image else None)
            given = step.check_parts(given, image if step.uses_image else None)
        else:
            given = {"": step.check(only_part(step, given))}
        types.append(given)
    emitted = {
        f"{item.name}_{part}" if part else item.name: replace(kind, layout="", channels="")
        for part, kind in given.items()
    }
    return PlannedOutput(item, tuple(tensors), tuple(types), emitted, image.name if image else None)


def _given_type(item: OutputSpec, tensor: ModelTensor, batch: int | None) -> TensorType:
    if tensor.shape is None and item.postprocess:
        message = f'the model does not say the rank of its output "{tensor.name}", so no step can follow it'
        raise SpecError(Problem("step-type-mismatch", message, item.postprocess[0].pointer))
    shape: Dims = tensor.shape or ()
    if shape and shape[0] is None:
        shape = (batch, *shape[1:])
    return TensorType(tensor.dtype, shape)


def _image_of(item: OutputSpec, step: Step, inputs: Sequence[InputSpec]) -> ImageInput:
    """The image that `step` looks at: the one that the output names, or the only one."""
    images = [each for each in inputs if each.kind != "tensor"]
    if item.image is not None:
        images = [each for each in images if each.name == item.image]
        if not images:
            hint = did_you_mean(item.image, [each.name for each in inputs if each.kind != "tensor"])
            message = f'"{item.image}" is no image input of this spec'
            raise SpecError(Problem("input-unknown", message, f"{item.pointer}/source", hint))
    if len(images) != 1:
        named = ", ".join(f'"{each.name}"' for each in images)
        hint = f'say "source": one of {named}' if images else ""
        raise step.fail(
            f'"{step.op}" looks at the image that was fed, and the spec has {len(images)} images', "op", hint
        )
    return images[0].as_image
