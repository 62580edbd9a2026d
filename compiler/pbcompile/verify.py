"""The gate: the artifact in a fresh process against the real libraries and the original model.

Tolerance of a float output, from its dtype and the depth of the network.  A dot product of K terms in float32 carries
a relative error that grows like a random walk, eps/2 · sqrt(K) (Higham, Accuracy and Stability, 2.8); along a chain of
linear layers the squares add up.  Two programs that sum in different orders may therefore differ by

    tolerance = 4 · eps · sqrt(K_1 + K_2 + … + K_n)     relative to the largest value of that output in that sample,

with K_i the terms of the layers on the heaviest path and eps = 2^-23.  4 covers both programs and the tail.

Where numbers cancel on their way, that is too strict: a steering angle near zero is the difference of two large sums.
Then the original is asked how far it moves itself when its input moves by one eps, with random signs; a program that
rounds in another order may differ by some such moves (backward error: Higham, 1.5), and 16 of them are allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.errors import Problem, SpecError
from pbcompile.measures import largest_divergence, least_overlap, sentences, top5_agreement
from pbcompile.models.original import Predict
from pbcompile.nearness import why_different
from pbcompile.plan import Plan, PlannedOutput
from pbcompile.reference.program import answers_reference, preprocess_reference, stages_reference
from pbcompile.samples import Sample
from pbcompile.side_by_side import SideBySide
from pbcompile.spec import InputSpec
from pbcompile.tensor_type import TensorType

Array = npt.NDArray[Any]
EPSILON = 2.0**-23
MOVES = 16
NEGLIGIBLE_LEVEL = 1e-3
"""Differences below a thousandth of a grey level are float rounding, not other pixels."""


@dataclass(frozen=True)
class PixelParity:
    """How far the preprocessed tensors are apart, in grey levels of the fed image."""

    max_level_difference: float
    differing_fraction: float


@dataclass(frozen=True)
class OutputParity:
    """How far one output is from the original's; None where it has no meaning for its dtype or shape.

    `excess` is the largest difference over its tolerance; above 1 the gate says no.
    """

    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    top1_agreement: float | None
    excess: float
    worst: str
    divergence: float | None = None
    top5_agreement: float | None = None
    overlap: float | None = None
    outside_fraction: float | None = None

    def as_json(self) -> dict[str, float | str | None]:
        """The promised fields, and the other figures of measures.py; what is not finite is null."""
        return {
            "max_abs": _finite(self.max_abs),
            "max_rel": _finite(self.max_rel),
            "cosine": _finite(self.cosine),
            "top1_agreement": self.top1_agreement,
            "top5_agreement": self.top5_agreement,
            "kl": self.divergence,
            "iou": self.overlap,
            "outside_fraction": self.outside_fraction,
            "worst": self.worst or None,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class VerifyReport:
    """What the gate found.

    original: who answered for the original model.  answers: both programs' decisions, for a person to read.
    """

    passed: bool
    samples: int
    original: str
    preprocess: Mapping[str, PixelParity]
    outputs: Mapping[str, OutputParity]
    problems: tuple[Problem, ...]
    first_divergence: Mapping[str, str] | None
    notes: tuple[str, ...] = ()
    answers: SideBySide | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields that spec-format.md promises."""
        return {
            "passed": self.passed,
            "samples": self.samples,
            "original": self.original,
            "preprocess": {
                name: {
                    "max_level_difference": _finite(parity.max_level_difference),
                    "differing_fraction": parity.differing_fraction,
                }
                for name, parity in self.preprocess.items()
            },
            "outputs": {name: parity.as_json() for name, parity in self.outputs.items()},
            "first_divergence": None if self.first_divergence is None else dict(self.first_divergence),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Expected:
    """The unfused program's answer for one sample.

    floor: difference that is always allowed, by the name of an output of the spec or of the model.
    """

    preprocessed: Mapping[str, Array]
    model: Mapping[str, Array]
    outputs: Mapping[str, Array]
    feeds: Mapping[str, Any]
    floor: Mapping[str, float] = field(default_factory=dict)


def reference_answers(
    plan: Plan, predict: Predict, samples: Sequence[Sample], advance: Callable[[], None]
) -> list[Expected]:
    """Run the unfused program on every sample.  Raises SpecError at the input whose sample the libraries refuse.

    predict: the original model, arrays by input name to arrays by output name.
    """
    answers = []
    for sample in samples:
        ready = {item.name: _preprocess(item, sample) for item in plan.spec.inputs}
        answers.append(_answer(plan, predict, ready, sample.feeds))
        advance()
    return answers


def _answer(plan: Plan, predict: Predict, ready: Mapping[str, Array], feeds: Mapping[str, Any]) -> Expected:
    given = predict({name: ready[item.name].astype(plan.targets[item.name].dtype) for name, item in plan.feeds.items()})
    return Expected(ready, given, answers_reference(plan, given, feeds), feeds)


def with_floors(plan: Plan, predict: Predict, expected: Sequence[Expected]) -> list[Expected]:
    """The same answers with what is allowed because the original itself moves: see the head of this file."""
    generator = np.random.default_rng(plan.spec.verify.seed)
    found = []
    for answer in expected:
        moved = {
            name: x * (1 + np.float32(EPSILON) * generator.choice([-1, 1], x.shape).astype(x.dtype))
            if x.dtype.kind == "f"
            else x
            for name, x in answer.preprocessed.items()
        }
        other = _answer(plan, predict, moved, answer.feeds)
        pairs = [(answer.model, other.model), (answer.outputs, other.outputs)]
        floor = {
            name: MOVES * float(np.max(np.abs(value.astype(np.float64) - after[name]), initial=0.0))
            for before, after in pairs
            for name, value in before.items()
            if value.dtype.kind == "f" and np.isfinite(value).all()
        }
        found.append(replace(answer, floor=floor))
    return found


def _preprocess(item: InputSpec, sample: Sample) -> Array:
    try:
        return preprocess_reference(item, sample.feeds[item.name])
    except ValueError as error:
        problem = Problem("image-unreadable", f'"{sample.name}" cannot be preprocessed: {error}', item.pointer)
        raise SpecError(problem) from error


def differing_step(plan: Plan, samples: Sequence[Sample], tapped: Sequence[Mapping[str, Array]]) -> str | None:
    """The first step after which the graph and the libraries differ, such as `image/01_resize`; None for no step.

    tapped: the plan's taps by node name, for each sample.
    """
    for item in plan.spec.inputs:
        taps = [tap for tap in plan.spec.taps if tap.input == item.name]
        types = (item.entry, *item.types)
        wanted = [stages_reference(item, sample.feeds[item.name]) for sample in samples]
        for position, tap in enumerate(taps):
            pairs = [(stages[position], got[tap.node]) for stages, got in zip(wanted, tapped, strict=True)]
            if _compare_pixels(item.kind, types[tap.index + 1], pairs).max_level_difference > 0:
                return f"{item.name}/{tap.index:02d}_{item.preprocess[tap.index].op}" if tap.index >= 0 else item.name
    return None


def compare(
    plan: Plan,
    samples: Sequence[Sample],
    expected: Sequence[Expected],
    preprocessed: Sequence[Mapping[str, Array]],
    outputs: Sequence[Mapping[str, Array]],
    tolerance: float,
    original: str,
) -> VerifyReport:
    """Put both programs' answers side by side.

    preprocessed: what the graph hands to the model, by input name, for each sample; outputs: the artifact's.
    tolerance: the derived relative tolerance of float outputs.
    """
    verify = plan.spec.verify
    problems: list[Problem] = []
    divergence: dict[str, str] | None = None
    pixels = {}
    for item in plan.spec.inputs:
        pairs = [(e.preprocessed[item.name], got[item.name]) for e, got in zip(expected, preprocessed, strict=True)]
        pixels[item.name] = parity = _compare_pixels(item.kind, item.result, pairs)
        if parity.max_level_difference > verify.max_level_difference:
            message = (
                f'the preprocessing of "{item.name}" differs by up to {parity.max_level_difference:.3g} grey levels '
                f"in {parity.differing_fraction:.2%} of the values"
            )
            problems.append(Problem("parity-exceeded", message, item.pointer))
            divergence = divergence or {"stage": "preprocess", "layer": item.name}
    results: dict[str, OutputParity] = {}
    notes: list[str] = []
    names = [sample.name for sample in samples]
    for output in plan.outputs:
        why: str | None = None
        for name in output.emitted:
            pairs = [(wanted.outputs[name], got[name]) for wanted, got in zip(expected, outputs, strict=True)]
            comparison = _Comparison(plan, name, tolerance, [answer.floor for answer in expected])
            parity_of = comparison.run(pairs, names)
            notes += sentences(name, pairs)
            if not parity_of.excess <= 1:
                why = _why(plan, output, samples, expected, outputs, tolerance) if why is None else why
                if why == EXPLAINED:
                    parity_of = replace(parity_of, excess=1.0)
                elif why:
                    parity_of = replace(parity_of, excess=math.inf, worst=why)
            results[name] = parity_of
            found = _judge(plan, output, name, parity_of)
            if found:
                problems.append(found)
                divergence = divergence or {"stage": "model", "layer": output.source}
    return VerifyReport(
        not problems, len(samples), original, pixels, results, tuple(problems), divergence, tuple(notes)
    )


EXPLAINED = "explained"


def _why(
    plan: Plan,
    output: PlannedOutput,
    samples: Sequence[Sample],
    expected: Sequence[Expected],
    outputs: Sequence[Mapping[str, Array]],
    tolerance: float,
) -> str:
    """Which sample of an output has no other right answer, and why; `EXPLAINED` where near ties explain all of them,
    "" for outputs that are compared number by number."""
    rtol = tolerance if plan.spec.verify.rtol is None else plan.spec.verify.rtol
    for sample, wanted, got in zip(samples, expected, outputs, strict=True):
        size = max((float(np.abs(wanted.model[name]).max(initial=0.0)) for name in output.sources), default=0.0)
        moves = max((wanted.floor.get(name, 0.0) for name in output.sources), default=0.0)
        room = max(rtol, moves / size if size else 0.0)
        why = why_different(plan, output, wanted.feeds, wanted.model, wanted.outputs, got, room)
        if why is None:
            return ""
        if why:
            return f"on {sample.name}, {why}"
    return EXPLAINED


def _judge(plan: Plan, output: PlannedOutput, name: str, parity: OutputParity) -> Problem | None:
    agreement, least = parity.top1_agreement, plan.spec.verify.min_top1_agreement
    if not parity.excess <= 1:
        message = f'the output "{name}" is not the original\'s: {parity.worst}'
        return Problem("parity-exceeded", message, output.spec.pointer)
    if agreement is not None and agreement < least:
        message = f'the output "{name}" names the same class on {agreement:.1%} of the samples, less than {least:.1%}'
        return Problem("parity-exceeded", message, output.spec.pointer)
    return None


def _compare_pixels(kind: str, given: TensorType, pairs: Sequence[tuple[Array, Array]]) -> PixelParity:
    low, high = given.range or (0.0, 255.0)
    level = (high - low) / 255.0 or 1.0
    worst, differing, total = 0.0, 0, 0
    for wanted, got in pairs:
        if wanted.shape != got.shape:
            return PixelParity(math.inf, 1.0)
        levels = np.abs(wanted.astype(np.float64) - got.astype(np.float64)) / level
        levels[(wanted != wanted) & (got != got)] = 0.0  # NaN on both sides agrees
        real = ~(levels <= NEGLIGIBLE_LEVEL) if kind != "tensor" else ~(levels <= 1e-5)
        differing += int(real.sum())
        total += levels.size
        if real.any():
            worst = max(worst, float(np.nanmax(levels)) if np.isfinite(levels).any() else math.inf)
    return PixelParity(worst, differing / max(total, 1))


class _Comparison:
    """Compares one public output over all samples."""

    def __init__(self, plan: Plan, name: str, tolerance: float, floors: Sequence[Mapping[str, float]]) -> None:
        verify = plan.spec.verify
        self.floors = [floor.get(name, 0.0) for floor in floors]
        self.rtol = tolerance if verify.rtol is None else verify.rtol
        self.atol = verify.atol
        self.explicit = verify.rtol is not None or verify.atol is not None

    def run(self, pairs: Sequence[tuple[Array, Array]], names: Sequence[str]) -> OutputParity:
        """Each pair is (expected, got) for the sample of that name."""
        excess, worst = 0.0, ""
        for (wanted, got), name, floor in zip(pairs, names, self.floors, strict=True):
            amount, where = self._excess(wanted, got, floor)
            if not amount <= excess:
                excess, worst = amount, f"on {name}, {where}"
        wanted0 = pairs[0][0]
        if wanted0.dtype.kind != "f" or any(w.shape != g.shape for w, g in pairs):
            return OutputParity(None, None, None, None, excess, worst)
        a = np.concatenate([w.ravel() for w, _ in pairs]).astype(np.float64)
        b = np.concatenate([g.ravel() for _, g in pairs]).astype(np.float64)
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        top1 = None
        if wanted0.ndim == 2 and wanted0.shape[1] > 1:
            same = [self._same_class(w, g, f) for (w, g), f in zip(pairs, self.floors, strict=True)]
            top1 = float(np.mean(np.concatenate(same)))
        each = [self._ratio(w, g, f).ravel() > 1 for (w, g), f in zip(pairs, self.floors, strict=True)]
        outside = np.concatenate(each)
        return OutputParity(
            max_abs=float(np.max(np.abs(a - b), initial=0.0)),
            max_rel=float(np.max(np.abs(a - b) / np.maximum(np.abs(a), np.finfo(np.float32).tiny), initial=0.0)),
            cosine=float(np.dot(a, b)) / norm if norm else 1.0 if np.array_equal(a, b) else 0.0,
            top1_agreement=top1,
            excess=excess,
            worst=worst,
            divergence=largest_divergence(pairs),
            top5_agreement=top5_agreement(pairs),
            overlap=least_overlap(pairs),
            outside_fraction=float(np.mean(outside)) if outside.size else 0.0,
        )

    def _allowed(self, wanted: Array, floor: float) -> Array:
        """The tolerance of each element: relative to the largest value of the sample unless the spec says its own."""
        size = np.abs(wanted.astype(np.float64))
        if self.explicit:
            return (self.atol or 0.0) + self.rtol * size
        finite = size[np.isfinite(size)]
        relative = self.rtol * float(finite.max(initial=0.0)) + np.finfo(np.float32).tiny
        return np.full(wanted.shape, max(relative, floor))

    def _excess(self, wanted: Array, got: Array, floor: float) -> tuple[float, str]:
        """The largest difference over its tolerance, and where."""
        if wanted.shape != got.shape:
            return math.inf, f"the shape is {list(got.shape)} for {list(wanted.shape)}"
        if wanted.dtype.kind == "f":
            ratio = self._ratio(wanted, got, floor)
            if not ratio.size:
                return 0.0, ""
            at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
            where = f"element {[int(i) for i in at]} is {got[at]:.9g} for {wanted[at]:.9g}"
            return float(ratio[at]), f"{where} ({ratio[at]:.3g} times the tolerance)"
        differing = int(np.sum(wanted != got))
        return (math.inf, f"{differing} of {wanted.size} values differ") if differing else (0.0, "")

    def _ratio(self, wanted: Array, got: Array, floor: float) -> Array:
        """Each element's difference over what is allowed; infinite where only one side is NaN."""
        difference = np.abs(wanted.astype(np.float64) - got.astype(np.float64))
        difference[(wanted == got) | ((wanted != wanted) & (got != got))] = 0.0  # equal infinities, NaN on both
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = difference / self._allowed(wanted, floor)
        ratio[difference == 0] = 0.0  # also where nothing is allowed
        ratio[np.isnan(ratio)] = math.inf
        return np.asarray(ratio)

    def _same_class(self, wanted: Array, got: Array, floor: float) -> Array:
        rows = np.arange(len(wanted))
        chosen = np.argmax(got, axis=1)
        gap = wanted.max(axis=1).astype(np.float64) - wanted[rows, chosen]
        return gap <= self._allowed(wanted, floor).reshape(len(wanted), -1)[:, 0]  # type: ignore[no-any-return]


def derived_tolerance(graph_def: Any) -> float:
    """4 · eps · sqrt(sum of K along the heaviest path): see the head of this file.

    The least K counted in all is 16, so that a graph without linear layers has the tolerance of a few roundings.
    """
    shapes = {node.name: _kernel_shape(node) for node in graph_def.node if node.op == "Const"}
    weight: dict[str, float] = {}
    for node in graph_def.node:  # written in topological order
        sources = [tensor.lstrip("^").partition(":")[0] for tensor in node.input]
        before = max((weight.get(source, 0.0) for source in sources), default=0.0)
        kernels = [shapes[source] for source in sources if shapes.get(source)]
        weight[node.name] = before + (_terms(node.op, kernels[0]) if kernels else 1.0)
    return 4.0 * EPSILON * math.sqrt(max([16.0, *weight.values()]))


def _kernel_shape(node: Any) -> tuple[int, ...]:
    return tuple(d.size for d in node.attr["value"].tensor.tensor_shape.dim)


def _terms(op: str, kernel: tuple[int, ...]) -> float:
    """Products that one output value sums."""
    if op.startswith(("Conv", "_FusedConv")) and len(kernel) >= 3:
        return float(math.prod(kernel[:-1]))
    if op.startswith("Depthwise") and len(kernel) == 4:
        return float(kernel[0] * kernel[1])
    if "MatMul" in op and len(kernel) == 2:
        return float(max(kernel))
    return 1.0
