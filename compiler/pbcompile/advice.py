"""Warnings: what compiles and is probably not meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pbcompile.errors import Problem
from pbcompile.models import PreprocessingLayer
from pbcompile.plan import Plan
from pbcompile.spec import InputSpec
from pbcompile.steps import Step
from pbcompile.steps.base import as_numbers
from pbcompile.steps.framing import Fit, Letterbox
from pbcompile.steps.normalisation import KerasApplications, Normalize, Rescale, Standardize, SubtractMean
from pbcompile.steps.postprocess import Sigmoid, Softmax
from pbcompile.steps.resampling import Resize
from pbcompile.tensor_type import TensorType

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

KNOWN_MEANS: dict[str, tuple[float, ...]] = {
    "ImageNet": (0.485, 0.456, 0.406),
    "CLIP": (0.48145466, 0.4578275, 0.40821073),
    "CIFAR-10": (0.4914, 0.4822, 0.4465),
}
"""Means of published data sets in RGB order, for 0..1."""
SAME_RATIO = 0.02
"""Sizes whose ratios differ by less are rounded, not stretched."""


def find_warnings(
    plan: Plan, preprocessing: Sequence[PreprocessingLayer], activations: Mapping[str, str]
) -> tuple[Problem, ...]:
    """What a careful reader of the spec would ask about; nothing here stops a compile.

    preprocessing: layers of the model near its inputs.  activations: of its outputs, by name, where known.
    """
    found = []
    for item in plan.spec.inputs:
        found += [*_double_preprocessing(item, preprocessing), *_steps_of(item)]
    return (*found, *_double_activation(plan, activations))


def find_notes(plan: Plan) -> tuple[Problem, ...]:
    """What depends on the image that is fed: worth a word in `check`, no warning."""
    notes = []
    for item in plan.spec.inputs:
        for step, given in _with_types(item):
            if isinstance(step, Resize) and step.size and given.is_image and None in given.size:
                height, width = step.size
                message = f"images of another ratio than {height}:{width} are stretched: the aspect ratio is lost"
                hint = 'if the training program cut or padded: "fit", "shorter_side" with "center_crop", "letterbox"'
                notes.append(Problem("aspect-ratio-lost", message, step.pointer, hint))
    return tuple(notes)


def _with_types(item: InputSpec) -> Iterator[tuple[Step, TensorType]]:
    """Each step with the type that it is given."""
    return zip(item.preprocess, (item.entry, *item.types), strict=False)


def _double_preprocessing(item: InputSpec, preprocessing: Sequence[PreprocessingLayer]) -> Iterator[Problem]:
    """Preprocessing inside the model, behind a spec that does the same again."""
    for layer in preprocessing:
        again = [step for step in item.preprocess if isinstance(step, SAME_WORK[layer.kind])]
        if again:
            ops = ", ".join(f'"{step.op}"' for step in again)
            message = f'the model\'s own layer "{layer.layer}" ({layer.detail}) does already what {ops} does before it'
            hint = "leave the step out, unless the model was trained behind both"
            yield Problem("double-preprocessing", message, again[0].pointer, hint)


def _steps_of(item: InputSpec) -> Iterator[Problem]:
    for step, given in _with_types(item):
        if isinstance(step, (Normalize, SubtractMean)) and not isinstance(step.mean, str):
            yield from _means(step, as_numbers(step.mean), given)
        elif isinstance(step, (Resize, Fit, Letterbox)) and given.is_image:
            yield from _sizes(step, given)


def _means(step: Step, means: tuple[float, ...], given: TensorType) -> Iterator[Problem]:
    """A mean of another scale than the values, or in the order of other channels."""
    where, high = f"{step.pointer}/mean", given.range[1] if given.range else None
    largest = max(abs(mean) for mean in means)
    shown = ", ".join(f"{mean:g}" for mean in means)
    if high is not None and high >= 128 and 0 < largest <= 1:
        message = f"a mean of {shown} is meant for 0..1, and the values here go up to {high:g}"
        yield Problem("mean-scale", message, where, 'put {"op": "rescale", "scale": 0.00392156862745098} before it')
    elif high is not None and 0 < high <= 1 and largest > 2:
        message = f"a mean of {shown} is meant for 0..255, and the values here go up to {high:g}"
        yield Problem(
            "mean-scale", message, where, "leave out what scales to 0..1 before it, or divide the mean by 255"
        )
    if len(means) != 3 or given.channels not in ("RGB", "BGR"):
        return
    scale = 255.0 if largest > 2 else 1.0
    for name, rgb in KNOWN_MEANS.items():
        known = rgb if given.channels == "BGR" else rgb[::-1]  # the order that would be wrong here
        if all(abs(mean / scale - k) < 0.003 for mean, k in zip(means, known, strict=True)):
            other = "RGB" if given.channels == "BGR" else "BGR"
            message = (
                f"{shown} are the means of {name} in the order {other}, and the channels here are {given.channels}"
            )
            hint = f'put {{"op": "convert_color", "to": "{other}"}} before it, or turn the numbers round'
            yield Problem("mean-order", message, where, hint)
            return


def _sizes(step: Resize | Fit | Letterbox, given: TensorType) -> Iterator[Problem]:
    """An image of known size that is stretched or enlarged."""
    height, width = given.size
    if height is None or width is None:
        return
    target = step.size if not isinstance(step, Resize) else step.target(height, width)
    rows, columns = target if target is not None else (None, None)
    if rows is None or columns is None:
        return
    if isinstance(step, Resize) and step.size and abs(height * columns / (width * rows) - 1) > SAME_RATIO:
        message = f"{height}x{width} becomes {rows}x{columns}: the aspect ratio is lost"
        yield Problem("aspect-ratio-lost", message, step.pointer, 'unless it was trained so: "fit" or "letterbox"')
    is_capped = isinstance(step, Letterbox) and not step.upscale
    if (rows > height or columns > width) and not is_capped:
        message = f"{height}x{width} is enlarged to {rows}x{columns}, which adds no detail"
        yield Problem("upsampling", message, step.pointer, "feed larger images, where there are any")


def _double_activation(plan: Plan, activations: Mapping[str, str]) -> Iterator[Problem]:
    """A softmax or sigmoid of what the model gives through one already."""
    for output in plan.outputs:
        own = activations.get(output.source, "")
        for step in output.spec.postprocess:
            if isinstance(step, (Softmax, Sigmoid)) and own in ("softmax", "sigmoid"):
                message = (
                    f'the model\'s output "{output.source}" has gone through {own} already, and "{step.op}" follows'
                )
                yield Problem("double-activation", message, step.pointer, "leave the step out")
