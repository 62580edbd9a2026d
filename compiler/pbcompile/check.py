"""`check`: the pipeline with shape and dtype after every step, from the spec and the model's config alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pbcompile.advice import find_notes, find_warnings
from pbcompile.errors import SpecError
from pbcompile.models import describe_model
from pbcompile.models.files import require_name
from pbcompile.plan import Plan, PlannedOutput, make_plan
from pbcompile.spec import InputSpec, Spec, emitted_names
from pbcompile.steps import Step
from pbcompile.tensor_type import TensorType

PROBES = ((1009, 1511), (2003, 3203))
"""Sizes that stand for open ones: large primes, so that what a step makes of them tells what it does to any size."""


def check_spec(spec: Spec, *, needs_model: bool = False) -> dict[str, Any]:
    """The pipeline as data; never imports TensorFlow.

    Binds inputs and outputs to the model's where its file says them without TensorFlow.  A model that is not there
    is an error only where it is needed.  Raises SpecError and ModelError.
    """
    with spec.text.locating():
        require_name(spec.model, spec.model.path)
        model = describe_model(spec.model) if needs_model or spec.model.path.exists() else None
        plan = make_plan(spec, model.inputs, model.outputs, is_built=False) if model else None
    inside, activations = (model.preprocessing, model.activations) if model else ((), {})
    said = plan or Plan(spec, {}, {}, ())
    return {
        "spec": str(spec.path),
        "model": str(spec.model.path),
        "model_read": model is not None,
        "inside": [f"{layer.layer}: {layer.kind}, {layer.detail}" for layer in inside],
        "inputs": [_describe_input(item) for item in spec.inputs],
        "outputs": [row for output in plan.outputs for row in _describe_output(output)]
        if plan
        else [
            {"name": name, "type": None, "from": item.source, "steps": [step.op for step in item.postprocess]}
            for item in spec.outputs
            for name in emitted_names(item)
        ],
        "artifact": str(spec.artifact),
        "optimize": spec.level,
        "warnings": [spec.text.locate(p).as_json() for p in find_warnings(said, inside, activations)],
        "notes": [spec.text.locate(p).as_json() for p in find_notes(said)],
    }


def _describe_input(item: InputSpec) -> dict[str, Any]:
    batch = "n"
    names: Names = ("h" if item.entry.is_image else None, "w" if item.entry.is_image else None)
    stages = [_stage("fed", item.fed, "", batch, names)]
    if item.entry != item.fed:
        stages.append(_stage("decode" if item.kind == "encoded" else "as a batch", item.entry, "", batch, names))
    given = item.entry
    for number, (step, after) in enumerate(zip(item.preprocess, item.types, strict=True), 1):
        names = _names_after(step, given, after, names, number)
        stages.append(_stage(step.op, after, step.exactness(given), batch, names))
        given = after
    return {"name": item.name, "kind": item.kind, "feeds": item.feeds, "stages": stages}


Names = tuple[str | None, str | None]
"""What the open height and width of an image are called; None where it is no image."""


def _names_after(step: Step, given: TensorType, after: TensorType, names: Names, number: int) -> Names:
    """The names of the sizes after a step: the same ones, with what was cut or added, or new ones.

    The step's own type rule is asked about two sizes in the place of the open ones.
    """
    if not (given.is_image and after.is_image):
        return names
    if None not in after.size:
        return names
    try:
        probes = []
        for probe in PROBES:
            fixed = [p if s is None else s for p, s in zip(probe, given.size, strict=True)]
            probes.append((fixed, step.check(given.with_size(*fixed)).size))
    except SpecError:
        probes = []
    return (_name_of(0, probes, names, number), _name_of(1, probes, names, number))


def _name_of(axis: int, probes: Sequence[tuple[Sequence[int], Sequence[int | None]]], names: Names, number: int) -> str:
    for source in (axis, 1 - axis):
        apart = {out[axis] - fed[source] if out[axis] is not None else None for fed, out in probes}  # type: ignore[operator]
        name = names[source]
        if len(apart) == 1 and name is not None and (difference := apart.pop()) is not None:
            return name if not difference else f"{name}{'+' if difference > 0 else '-'}{abs(difference)}"
    return f"{'hw'[axis]}{number}"


def _describe_output(output: PlannedOutput) -> list[dict[str, Any]]:
    types = output.emitted or dict.fromkeys(emitted_names(output.spec))
    return [
        {
            "name": name,
            "type": None if given is None else str(given),
            "from": output.source,
            "steps": [step.op for step in output.spec.postprocess],
        }
        for name, given in types.items()
    ]


def _stage(name: str, given: TensorType, match: str, batch: str, names: Names) -> dict[str, Any]:
    return {
        "stage": name,
        "type": _named(given, batch, names),
        "dtype": given.dtype,
        "shape": list(given.shape),
        "channels": given.channels or None,
        "range": None if given.range is None else list(given.range),
        "match": match or None,
    }


def _named(given: TensorType, batch: str, names: Names) -> str:
    """A type with a name for each open size: n, h, w, and d1, d2, … for axes that are no height or width."""
    words = []
    layout = given.layout or ("" if given.rank != 3 or not given.channels else "HWC")
    for axis, size in enumerate(given.shape):
        place = layout[axis] if len(layout) == given.rank else "N" if axis == 0 else ""
        open_name = {"N": batch, "H": names[0], "W": names[1]}.get(place)
        words.append(str(size) if size is not None else open_name or f"d{axis}")
    extra = [word for word in (given.channels, given.layout if given.layout == "NCHW" else "") if word]
    return " ".join([given.dtype, f"[{', '.join(words)}]", *extra])
