"""Both programs' answers side by side, as a person reads them: what each decided, and how their numbers are apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pbcompile.plan import Plan, PlannedOutput
from pbcompile.samples import Sample
from pbcompile.steps.postprocess import Argmax, TopK

if TYPE_CHECKING:
    from pbcompile.verify import Expected

Array = npt.NDArray[Any]
EQUAL = -math.inf
"""The decade of a difference of zero."""
LEAST_DECADE = -12
"""What is smaller than this goes in here: no float32 arithmetic tells it from zero."""


@dataclass(frozen=True)
class Row:
    """One item of one sample: what the original and the artifact decided, by output.

    sample: index of the sample; item: index in its batch.
    """

    sample: int
    item: int
    original: Mapping[str, str]
    artifact: Mapping[str, str]


@dataclass(frozen=True)
class SideBySide:
    """names: of the samples, in order.  rows: the decisions.

    errors: by float output, how many values differ by how much: counts by the decade of the difference relative to
    the largest value of the sample (-7 is 1e-7 up to 1e-6, `LEAST_DECADE` also what is less), `EQUAL` for none.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    errors: Mapping[str, Mapping[float, int]]


def side_by_side(
    plan: Plan, samples: Sequence[Sample], expected: Sequence[Expected], outputs: Sequence[Mapping[str, Array]]
) -> SideBySide:
    """Decisions and differences of every sample; outputs: the artifact's answers."""
    names = class_names(plan)
    rows: list[Row] = []
    for index, (wanted, got) in enumerate(zip(expected, outputs, strict=True)):
        original, artifact = (_decisions(plan, answers, names) for answers in (wanted.outputs, got))
        count = max((len(words) for words in original.values()), default=0)
        for item in range(count):
            both = [{k: words[item] for k, words in side.items() if item < len(words)} for side in (original, artifact)]
            rows.append(Row(index, item, *both))
    errors: dict[str, dict[float, int]] = {}
    for name in plan.output_types:
        pairs = [(wanted.outputs[name], got[name]) for wanted, got in zip(expected, outputs, strict=True)]
        if all(one.dtype.kind == other.dtype.kind == "f" and one.shape == other.shape for one, other in pairs):
            errors[name] = _decades(pairs)
    return SideBySide(tuple(sample.name for sample in samples), tuple(rows), errors)


def class_names(plan: Plan) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The labels that the spec gives to what comes from these outputs of the model."""
    return {
        output.sources: step.label_names
        for output in plan.outputs
        for step in output.spec.postprocess
        if isinstance(step, TopK) and step.label_names
    }


def _decisions(
    plan: Plan, answers: Mapping[str, Array], names: Mapping[tuple[str, ...], tuple[str, ...]]
) -> dict[str, list[str]]:
    """The class that each output of the spec names for each item; outputs that name none are left out."""
    found = {}
    for output in plan.outputs:
        chosen = _classes(output, answers)
        if chosen is not None:
            labels = names.get(output.sources, ())
            found[output.spec.name] = [labels[i] if 0 <= i < len(labels) else str(i) for i in chosen]
    return found


def _classes(output: PlannedOutput, answers: Mapping[str, Array]) -> list[int] | None:
    name = output.spec.name
    last = output.spec.postprocess[-1] if output.spec.postprocess else None
    if isinstance(last, TopK):
        chosen = answers[f"{name}_indices"]
        return [int(row[0]) for row in chosen] if chosen.ndim == 2 and chosen.shape[1] else None
    values = answers.get(name)
    if isinstance(last, Argmax) and values is not None and values.ndim == 1:
        return [int(value) for value in values]
    if values is not None and values.dtype.kind == "f" and values.ndim == 2 and values.shape[1] > 1:
        return [int(i) for i in values.argmax(axis=1)]
    return None


def _decades(pairs: Sequence[tuple[Array, Array]]) -> dict[float, int]:
    counts: Counter[float] = Counter()
    for wanted, got in pairs:
        finite = np.isfinite(wanted) & np.isfinite(got)
        a, b = wanted[finite].astype(np.float64), got[finite].astype(np.float64)
        off = np.abs(a - b) / (float(np.abs(a).max(initial=0.0)) or 1.0)
        counts[EQUAL] += int(np.sum(off == 0))
        decades, each = np.unique(np.maximum(np.floor(np.log10(off[off > 0])), LEAST_DECADE), return_counts=True)
        counts.update(dict(zip(decades.tolist(), each.tolist(), strict=True)))
    return {decade: count for decade, count in sorted(counts.items()) if count}
