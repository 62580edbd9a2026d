"""Warnings: what compiles and is probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from pbcompile.errors import Problem
from pbcompile.models import LoadedModel
from pbcompile.plan import Plan
from pbcompile.spec import InputSpec
from pbcompile.steps import Step
from pbcompile.steps.framing import Fit, Letterbox
from pbcompile.steps.normalisation import KerasApplications, Normalize, Rescale, Standardize, SubtractMean
from pbcompile.steps.resampling import Resize

SCALING = (KerasApplications, Normalize, Rescale, Standardize, SubtractMean)
SIZING = (Resize, Fit, Letterbox)

SAME_WORK: dict[str, tuple[type[Step], ...]] = {
    "rescale": SCALING,
    "normalize": SCALING,
    "batch_norm": SCALING,
    "lambda": SCALING,
    "resize": SIZING,
    "crop": (Fit,),
}
"""Which steps of a spec do what a layer of this kind inside the model does already."""


def find_warnings(plan: Plan, model: LoadedModel) -> tuple[Problem, ...]:
    """What a careful reader of the spec would ask about; nothing here stops a compile."""
    return tuple(problem for item in plan.spec.inputs for problem in _double_preprocessing(item, model))


def _double_preprocessing(item: InputSpec, model: LoadedModel) -> Iterator[Problem]:
    """Preprocessing inside the model, behind a spec that does the same again."""
    for layer in model.preprocessing:
        again = [step for step in item.preprocess if isinstance(step, SAME_WORK[layer.kind])]
        if again:
            ops = ", ".join(f'"{step.op}"' for step in again)
            message = f'the model\'s own layer "{layer.layer}" ({layer.detail}) does already what {ops} does before it'
            hint = "leave the step out, unless the model was trained behind both"
            yield Problem("double-preprocessing", message, again[0].pointer, hint)
