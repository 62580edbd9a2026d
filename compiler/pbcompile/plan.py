"""What feeds what: the spec's inputs and outputs bound to the model's, with every type checked.  No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pbcompile.errors import Problem, SpecError, did_you_mean
from pbcompile.models import ModelTensor
from pbcompile.spec import InputSpec, OutputSpec, Spec
from pbcompile.steps.postprocess import TopK
from pbcompile.tensor_type import Dims, TensorType


@dataclass(frozen=True)
class PlannedOutput:
    """One output of the spec with the model output it comes from.

    types:   type before each postprocess step; `types[0]` is what the model gives.
    emitted: the nodes it stands for, by their public names, in order.
    """

    spec: OutputSpec
    source: str
    types: tuple[TensorType, ...]
    emitted: Mapping[str, TensorType]


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
    missing = [name for name in by_name if name not in feeds]
    if missing and not problems:
        problems.append(Problem("input-missing", f"nothing feeds the model's {_listed(missing)}", "/inputs"))
    return {name: feeds[name] for name in by_name if name in feeds}, targets


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
    wanted = spec.outputs or tuple(OutputSpec(name, name, (), "/outputs") for name in by_name)
    batch = {item.entry.shape[0] for item in spec.inputs if item.entry.rank}
    fixed = batch.pop() if len(batch) == 1 else None
    planned = []
    for item in wanted:
        source = item.source or (next(iter(by_name)) if len(by_name) == 1 else item.name)
        if source not in by_name:
            message = f'the model has no output "{source}"'
            if item.source is None:
                message = f'"{item.name}" is none of the model\'s {len(by_name)} outputs, and "from" is missing'
            pointer = item.pointer if item.source is None else f"{item.pointer}/from"
            hint = "its outputs: " + ", ".join(by_name) if len(by_name) <= 8 else did_you_mean(source, by_name)
            problems.append(Problem("output-unknown", message, pointer, hint))
            continue
        if by_name[source].shape is None and not is_built:
            planned.append(PlannedOutput(item, source, (), {}))
            continue
        try:
            planned.append(_plan_output(item, source, by_name[source], fixed))
        except SpecError as error:
            problems.extend(error.problems)
    return tuple(planned)


def _plan_output(item: OutputSpec, source: str, tensor: ModelTensor, batch: int | None) -> PlannedOutput:
    if tensor.shape is None and item.postprocess:
        message = f'the model does not say the rank of its output "{source}", so no step can follow it'
        raise SpecError(Problem("step-type-mismatch", message, item.postprocess[0].pointer))
    shape: Dims = tensor.shape or ()
    if shape and shape[0] is None:
        shape = (batch, *shape[1:])
    given = TensorType(tensor.dtype, shape)
    types = [given]
    for step in item.postprocess:
        if isinstance(step, TopK):
            parts = {f"{item.name}_{part}": kind for part, kind in step.check_parts(given).items()}
            return PlannedOutput(item, source, tuple(types), parts)
        given = step.check(given)
        types.append(given)
    return PlannedOutput(item, source, tuple(types), {item.name: replace(given, layout="", channels="")})
