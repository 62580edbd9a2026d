"""A bench report as text for a terminal: 100 columns, no colours."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def render(report: Mapping[str, Any]) -> str:
    """The JSON of a `BenchReport` as a person reads it."""
    settings, about = report["settings"], report["environment"]
    head = f"{settings['artifact']}, level {settings['level']}, fed {_fed(settings)}"
    grappler = "" if settings["grappler"] else ", Grappler off"
    under = (
        f"{about['cpu']}, {settings['threads']} threads each{grappler}, TensorFlow {about['versions']['tensorflow']}"
    )
    parts = [head, under, "", *variant_table(report), "", *split_table(report["variants"])]
    for name, why in report["skipped"].items():
        parts += textwrap.wrap(f"{name} is not here: {why}", 100, initial_indent="  ", subsequent_indent="    ")
    for warning in report["warnings"]:
        parts += textwrap.wrap(warning, 100, initial_indent="  ! ", subsequent_indent="    ")
    return "\n".join(parts)


def _fed(settings: Mapping[str, Any]) -> str:
    shapes = [
        f"{feed['dtype']} {feed['shape']}" if feed["dtype"] != "string" else "encoded images"
        for feed in settings["feeds"].values()
    ]
    return f"{' and '.join(shapes)} ({settings['image']})"


def variant_table(report: Mapping[str, Any]) -> list[str]:
    """Latency of one feed in ms, and throughput."""
    batches = list(dict.fromkeys(batch for variant in report["variants"].values() for batch in variant["throughput"]))
    rate = [f"{batch} at once" for batch in batches]
    rows = [["ms for one feed", "first", "min", "median", "90 %", "99 %", "± %", "start", "MB", "ratio", *rate]]
    for name, variant in report["variants"].items():
        low, high = variant["interval_ms"]
        spread = 50 * (high - low) / variant["p50_ms"]
        ratio = report["ratios"].get(name)
        figures = (variant[f"{key}_ms"] for key in ("first", "min", "p50", "p90", "p99"))
        rows.append(
            [
                name,
                *(number(figure) for figure in figures),
                f"{spread:.1f}",
                number(variant["start_ms"]),
                f"{variant['peak_mb']:.0f}",
                "" if ratio is None else f"{ratio:.2f}",
                *(_rate(variant["throughput"].get(batch)) for batch in batches),
            ]
        )
    return columns(rows)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{number(rate)}/s"


def split_table(variants: Mapping[str, Any]) -> list[str]:
    """Where the time goes."""
    found = {name: variant["split"] for name, variant in variants.items() if variant["split"]}
    if not found:
        return []
    rows = [["ms of which", "decoding", "other steps", "network and the rest"]]
    for name, split in found.items():
        rows.append([name, *(number(split[f"{key}_ms"]) for key in ("decode", "preprocess", "network"))])
    return columns(rows)


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and the others to the right; a rule under the first row."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return [lines[0], "  " + "─" * (len(lines[0]) - 2), *lines[1:]]
