"""Plots as inline SVG, placed in percent: they are as wide as their box, and their text keeps its size on a phone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pbcompile.side_by_side import EQUAL, LEAST_DECADE

MARKS = (("min_ms", "min"), ("p50_ms", "p50"), ("p90_ms", "p90"), ("p99_ms", "p99"))
MOST_TICKS = 5


def short(value: float | None) -> str:
    """Three digits that matter; a dash for what has no value."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.3g}"


def size(count: int) -> str:
    """Bytes as people say them."""
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"


@dataclass(frozen=True)
class Bar:
    """A label, the count, and the bar itself."""

    label: str
    count: int
    svg: Markup


def bar(share: float, kind: str = "bar") -> Markup:
    """A horizontal bar over `share` of its box."""
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}"
    return Markup(
        '<svg class="plot thin" role="img" aria-hidden="true"><rect class="{}" width="{}%" height="100%"/></svg>'
    ).format(kind, width)


def histogram(counts: Mapping[float, int]) -> list[Bar]:
    """Differences relative to the largest value of the sample, a bar for each power of ten."""
    total = sum(counts.values())
    return [Bar(_decade(decade), count, bar(count / total)) for decade, count in counts.items()]


def _decade(decade: float) -> str:
    if decade == EQUAL:
        return "equal"
    above = f"1e{decade + 1:+03.0f}"
    return f"below {above}" if decade == LEAST_DECADE else f"1e{decade:+03.0f} to {above}"


def op_bars(before: Mapping[str, int], after: Mapping[str, int]) -> list[dict[str, Any]]:
    """Every op of the graph before and after, the most frequent first."""
    most = max([1, *before.values(), *after.values()])
    names = sorted({*before, *after}, key=lambda op: (-max(before.get(op, 0), after.get(op, 0)), op))
    return [
        {
            "op": op,
            "before": before.get(op, 0),
            "after": after.get(op, 0),
            "svg": bar(before.get(op, 0) / most, "bar before") + bar(after.get(op, 0) / most),
        }
        for op in names
    ]


def latency(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """For each program a line on one logarithmic axis of milliseconds, and the axis.

    A grey stroke stands for each of its 101 quantiles, a bar for the interval of the median, a mark for min, p50, p90
    and p99.
    """
    smallest = min(variant["min_ms"] for variant in variants.values())
    largest = max(variant["quantiles_ms"][-1] for variant in variants.values())
    low, high = math.log10(max(smallest, 1e-6) / 1.15), math.log10(max(largest, 1e-6) * 1.15)

    def place(value: float) -> float:
        return min(max(100 * (math.log10(max(value, 1e-6)) - low) / (high - low), 0.0), 100.0)

    lines = {}
    for name, variant in variants.items():
        strokes = Markup("").join(
            Markup('<line class="stroke" x1="{0:.2f}%" x2="{0:.2f}%" y1="9" y2="19"/>').format(place(value))
            for value in variant["quantiles_ms"]
        )
        left, right = (place(value) for value in variant["interval_ms"])
        box = Markup('<rect class="interval" x="{:.2f}%" width="{:.2f}%" y="3" height="22" rx="2"/>')
        marks = Markup("").join(
            Markup('<circle class="{}" cx="{:.2f}%" cy="14" r="{}"><title>{} {} ms</title></circle>').format(
                word, place(variant[key]), 5 if word == "p50" else 3.5, word, short(variant[key])
            )
            for key, word in MARKS
        )
        lines[name] = Markup('<svg class="plot line" role="img" aria-label="{}: {} ms">{}</svg>').format(
            name, short(variant["p50_ms"]), strokes + box.format(left, max(right - left, 0.3)) + marks
        )
    ticks = Markup("").join(
        Markup('<line class="tick" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="5"/>'
               '<text x="{0:.2f}%" y="18" text-anchor="middle">{1}</text>').format(place(tick), f"{tick:g}")
        for tick in _ticks(10**low, 10**high)
        if 4 <= place(tick) <= 96  # a number at the edge would be cut off
    )  # fmt: skip
    return {"lines": lines, "axis": Markup('<svg class="plot axis" role="img" aria-label="ms">{}</svg>').format(ticks)}


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones: 1, 2, 5, …, or powers of ten alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(found) <= MOST_TICKS:
            break
    return found
