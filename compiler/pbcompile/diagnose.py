"""Which known mistake explains an artifact that is not its original.

Every mistake here has a face: the unfused program is run again with exactly that mistake in it, and where it then gives
the artifact's numbers, that is the cause.  Nothing is guessed from the size of a difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.artifact import read_artifact
from pbcompile.models.variants import mistaken_calls
from pbcompile.plan import Plan
from pbcompile.reference.decoding import decode_by_tensorflow
from pbcompile.reference.program import answers_reference, apply_reference, preprocess_reference, stages_reference
from pbcompile.result import Compiled
from pbcompile.samples import Sample
from pbcompile.spec import InputSpec
from pbcompile.steps import Step
from pbcompile.steps.colour import ConvertColor
from pbcompile.steps.normalisation import KerasApplications, Normalize, Rescale, SubtractMean
from pbcompile.steps.resampling import METHODS, Resize
from pbcompile.verify import Expected

Array = npt.NDArray[Any]
Answers = Sequence[Mapping[str, Array]]
Preprocess = Callable[[InputSpec, Any], Array]

MOST_SAMPLES = 4
EXPLAINED = 0.02
"""A mistake explains the numbers when it leaves less than this share of the difference."""


@dataclass(frozen=True)
class Cause:
    """A mistake that gives the artifact's numbers.

    stage: "preprocess", "model" or "outputs"; layer: the step, layer or output; pointer: where in the spec.
    """

    stage: str
    layer: str
    message: str
    pointer: str = ""


def likely_cause(
    made: Compiled, samples: Sequence[Sample], expected: Sequence[Expected], outputs: Answers, artifact: Path
) -> Cause | None:
    """The known mistake that comes nearest to what the artifact gave, if it explains it; or the weights that differ.

    outputs: the artifact's answers for each sample.
    """
    chosen = slice(0, MOST_SAMPLES)
    wanted: Answers = [answer.outputs for answer in expected[chosen]]
    got = outputs[chosen]
    apart = _distance(wanted, got)
    best, left = None, EXPLAINED * apart
    for cause, answers in _mistakes(made, samples[chosen], expected[chosen]):
        distance = float("inf") if answers is None else _distance(answers, got)
        if distance < left:
            best, left = cause, distance
    return best or _other_weights(made, artifact)


def _mistakes(
    made: Compiled, samples: Sequence[Sample], expected: Sequence[Expected]
) -> Iterator[tuple[Cause, Answers | None]]:
    """Every known mistake with what the unfused program answers when it makes it; None where it cannot run then."""
    yield from _behind(made.plan, expected)
    for cause, item, preprocess in _in_front(made.plan):
        yield cause, _run(made, samples, {item.name: preprocess})
    for message, call in mistaken_calls(made.model):
        yield Cause("model", "batch norm", message), _run(made, samples, {}, call)


def _distance(some: Answers, others: Answers) -> float:
    """Root mean square of the differences between the numeric outputs; infinite where shapes differ."""
    total, count = 0.0, 0
    for one, other in zip(some, others, strict=True):
        for name, value in one.items():
            if name not in other:
                continue
            texts = [x.dtype.kind in "OSU" for x in (value, other[name])]
            if all(texts):
                continue
            if any(texts) or value.shape != other[name].shape:
                return float("inf")
            difference = value.astype(np.float64) - other[name].astype(np.float64)
            total += float(np.sum(np.nan_to_num(difference, nan=1e6) ** 2))
            count += difference.size
    return float(np.sqrt(total / max(count, 1)))


def _run(
    made: Compiled,
    samples: Sequence[Sample],
    changed: Mapping[str, Preprocess],
    call: Callable[[Mapping[str, Array]], Mapping[str, Array]] | None = None,
) -> Answers | None:
    """The unfused program with other preprocessing for some inputs, or another model; None where it cannot run."""
    plan = made.plan
    answers: list[Mapping[str, Array]] = []
    for sample in samples:
        feeds = {}
        for name, item in plan.feeds.items():
            try:
                ready = changed.get(item.name, preprocess_reference)(item, sample.feeds[item.name])
            except (ValueError, KeyError):
                return None
            target = plan.targets[item.name]
            feeds[name] = ready.astype(target.dtype)
            if target.shape is not None and any(
                w not in (None, h) for w, h in zip(target.shape, ready.shape, strict=True)
            ):
                return None
        given = (call or made.model.predict)(feeds)
        answers.append(answers_reference(plan, given, sample.feeds))
    return answers


def _behind(plan: Plan, expected: Sequence[Expected]) -> Iterator[tuple[Cause, Answers]]:
    """Mistakes behind the model: outputs swapped, a softmax or sigmoid too many or too few."""
    names = list(plan.output_types)
    for one, other in itertools.combinations(names, 2):
        shapes = {answer.outputs[name].shape for answer in expected for name in (one, other)}
        if len(shapes) == len({answer.outputs[one].shape for answer in expected}):
            swapped = [{**a.outputs, one: a.outputs[other], other: a.outputs[one]} for a in expected]
            yield Cause("outputs", one, f'the outputs "{one}" and "{other}" are swapped'), swapped
    for output in plan.outputs:
        name = output.spec.name
        if name not in output.emitted or not output.emitted[name].is_float or output.emitted[name].rank < 2:
            continue
        for word, function in (("softmax", _softmax), ("sigmoid", _sigmoid)):
            twice = [{**a.outputs, name: function(a.outputs[name])} for a in expected]
            yield Cause("outputs", name, f'a {word} too many on the output "{name}"', output.spec.pointer), twice
    every = [name for name in names if expected[0].outputs[name].dtype.kind == "f"]
    if len(every) > 1:
        twice = [{**a.outputs, **{name: _softmax(a.outputs[name]) for name in every}} for a in expected]
        yield Cause("outputs", every[0], "a softmax too many on every output"), twice


def _softmax(x: Array) -> Array:
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))), np.float32)


def _in_front(plan: Plan) -> Iterator[tuple[Cause, InputSpec, Preprocess]]:
    """Mistakes in front of the model, input by input."""
    for item in plan.spec.inputs:
        if item.kind == "encoded":
            yield from _decoders(item)
        if item.kind != "tensor":
            yield from _colours(item)
        for index, step in enumerate(item.preprocess):
            for message, others in _other_steps(step):
                cause = Cause("preprocess", f"{item.name}/{index:02d}_{step.op}", message, step.pointer)
                yield cause, item, _with_steps(index, others)


def _decoders(item: InputSpec) -> Iterator[tuple[Cause, InputSpec, Preprocess]]:
    def turned(item: InputSpec, fed: Any) -> Array:
        return preprocess_reference(replace(item, exif="ignore" if item.exif == "apply" else "apply"), fed)

    word = "is not applied" if item.exif == "apply" else "is applied"
    yield Cause("preprocess", f"{item.name}/decode", f"the EXIF orientation {word}", item.pointer), item, turned
    for message, exact, keeps_exif in (
        ("TensorFlow decodes the images, without looking at EXIF", True, False),
        ("TensorFlow decodes the images, without EXIF and with its default, inexact JPEG transform", False, False),
        ("JPEGs are decoded with TensorFlow's default, inexact transform", False, True),
    ):

        def decoded(item: InputSpec, fed: Any, exact: bool = exact, keeps_exif: bool = keeps_exif) -> Array:
            contents = list(fed) if item.is_vector else [fed]
            pixels = replace(item, kind="pixels", fed=item.entry)
            images = [decode_by_tensorflow(c, item.channels, accurate=exact, turn=keeps_exif) for c in contents]
            return np.concatenate([stages_reference(pixels, image)[-1] for image in images])

        yield Cause("preprocess", f"{item.name}/decode", message, item.pointer), item, decoded


def _colours(item: InputSpec) -> Iterator[tuple[Cause, InputSpec, Preprocess]]:
    """Red and blue swapped before the first step or before any later one."""
    for index in range(len(item.preprocess) + 1):
        given = (item.entry, *item.types)[index]
        if given.channel_count != 3 or not given.is_image:
            continue
        where = f"before step {index}" if index < len(item.preprocess) else "after the last step"

        def swapped(item: InputSpec, fed: Any, index: int = index) -> Array:
            stages = stages_reference(item, fed)
            given = (item.entry, *item.types)[index]
            x = np.flip(stages[index - item.first_batched], given.channel_axis)
            return _rest(item, index, x)

        yield Cause("preprocess", item.name, f"red and blue are swapped {where}", item.pointer), item, swapped


def _rest(item: InputSpec, start: int, x: Array) -> Array:
    for index in range(start, len(item.preprocess)):
        x = apply_reference(item.preprocess[index], x, (item.entry, *item.types)[index])
    return x


def _with_steps(index: int, others: Sequence[Step]) -> Preprocess:
    """The preprocessing with step `index` replaced by `others`."""

    def run(item: InputSpec, fed: Any) -> Array:
        steps = (*item.preprocess[:index], *others, *item.preprocess[index + 1 :])
        types = []
        given = item.entry
        for step in steps:
            given = step.check(given)
            types.append(given)
        return preprocess_reference(replace(item, preprocess=steps, types=tuple(types)), fed)

    return run


def _other_steps(step: Step) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """What people write instead of this step, with the sentence that says so."""
    if isinstance(step, Resize):
        for like, methods in METHODS.items():
            for method in methods:
                if (like, method) != (step.like, step.method):
                    message = f"resized {method} like {like}, not {step.method} like {step.like}"
                    yield message, (replace(step, like=like, method=method, antialias=False),)
                    if like == "tensorflow" and method != "nearest":
                        yield f"{message}, with antialias", (replace(step, like=like, method=method, antialias=True),)
    if isinstance(step, ConvertColor) and step.to == "GRAY" and step.like:
        for like in ("opencv", "pillow"):
            if like != step.like:
                yield f"gray made with the weights and rounding of {like}, not {step.like}", (replace(step, like=like),)
    if isinstance(step, (SubtractMean, Normalize)) and not isinstance(step.mean, str):
        for factor, word in ((255.0, "times 255"), (1 / 255.0, "divided by 255")):
            yield f"the mean is {word}", (replace(step, mean=_scaled(step.mean, factor)),)
            if isinstance(step, Normalize):
                scaled = replace(step, mean=_scaled(step.mean, factor), std=_scaled(step.std, factor))
                yield f"mean and std are {word}", (scaled,)
    if isinstance(step, (Rescale, Normalize, SubtractMean)):
        yield f'the "{step.op}" is applied twice', (step, step)
    if isinstance(step, KerasApplications):
        for mode in ("caffe", "tf", "torch"):
            if mode != step.mode:
                yield f"preprocess_input of mode {mode}, not {step.mode}", (replace(step, mode=mode),)
    yield f'the "{step.op}" is left out', ()


def _scaled(value: Any, factor: float) -> Any:
    return tuple(v * factor for v in value) if isinstance(value, tuple) else value * factor


def _other_weights(made: Compiled, artifact: Path) -> Cause | None:
    """The first constant that is not what compiling the spec now gives, in the order the data flows."""
    import tensorflow as tf

    ours = tf.compat.v1.GraphDef.FromString(made.data)
    theirs, _ = read_artifact(artifact)
    known = {node.name: node for node in theirs.node if node.op == "Const"}
    for node in ours.node:
        other = known.get(node.name)
        if node.op != "Const" or other is None or node.attr["value"] == other.attr["value"]:
            continue
        a, b = (tf.make_ndarray(n.attr["value"].tensor) for n in (node, other))
        if a.shape != b.shape or a.dtype.kind != "f":
            continue
        at = np.unravel_index(int(np.argmax(np.abs(a.astype(np.float64) - b))), a.shape)
        count = int(np.sum(a != b))
        message = (
            f'{count} of the {a.size} values of "{node.name}" are not the model\'s; the farthest is {b[at]:.6g} for '
            f"{a[at]:.6g} at {[int(i) for i in at]}"
        )
        return Cause("model", node.name, message)
    return None
