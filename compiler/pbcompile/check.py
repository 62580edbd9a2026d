"""`check`: the pipeline with shape and dtype after every step, from the spec and the model's config alone."""

from __future__ import annotations

from typing import Any

from pbcompile.models import describe_model
from pbcompile.plan import PlannedOutput, make_plan
from pbcompile.spec import InputSpec, Spec, emitted_names
from pbcompile.tensor_type import TensorType


def check_spec(spec: Spec, *, needs_model: bool = False) -> dict[str, Any]:
    """The pipeline as data; never imports TensorFlow.

    Binds inputs and outputs to the model's where its file says them without TensorFlow.  A model that is not there
    is an error only where it is needed.  Raises SpecError and ModelError.
    """
    with spec.text.locating():
        model = describe_model(spec.model) if needs_model or spec.model.path.exists() else None
        plan = make_plan(spec, model.inputs, model.outputs, is_built=False) if model else None
    return {
        "spec": str(spec.path),
        "model": str(spec.model.path),
        "model_read": model is not None,
        "inputs": [_describe_input(item) for item in spec.inputs],
        "outputs": [row for output in plan.outputs for row in _describe_output(output)]
        if plan
        else [
            {"name": name, "type": None, "from": item.source} for item in spec.outputs for name in emitted_names(item)
        ],
        "artifact": str(spec.artifact),
        "optimize": spec.level,
    }


def _describe_input(item: InputSpec) -> dict[str, Any]:
    stages = [_stage("fed", item.fed, "")]
    if item.entry != item.fed:
        stages.append(_stage("decode" if item.kind == "encoded" else "as a batch", item.entry, ""))
    given = item.entry
    for step, after in zip(item.preprocess, item.types, strict=True):
        stages.append(_stage(step.op, after, step.exactness(given)))
        given = after
    return {"name": item.name, "kind": item.kind, "feeds": item.feeds, "stages": stages}


def _describe_output(output: PlannedOutput) -> list[dict[str, Any]]:
    types = output.emitted or dict.fromkeys(emitted_names(output.spec))
    return [
        {"name": name, "type": None if given is None else str(given), "from": output.source}
        for name, given in types.items()
    ]


def _stage(name: str, given: TensorType, match: str) -> dict[str, Any]:
    return {
        "stage": name,
        "type": str(given),
        "dtype": given.dtype,
        "shape": list(given.shape),
        "channels": given.channels or None,
        "range": None if given.range is None else list(given.range),
        "match": match or None,
    }
