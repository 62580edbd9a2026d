"""`bench`: the artifact against the programs that it replaces, timed so that the figures can be believed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.artifact import read_artifact
from pbcompile.bench.contender import PEERS, UNFUSED, Contender, check_peers
from pbcompile.bench.environment import available_cpus, environment, load
from pbcompile.bench.feeds import bench_image, make_feeds, open_batch
from pbcompile.bench.figures import Interval, noise_warnings, quantile, ratio_interval
from pbcompile.bench.prepare import fused_contender, network_contenders, preprocess_contender
from pbcompile.bench.rounds import Record, Settings, measure
from pbcompile.pipeline import build
from pbcompile.result import Witness
from pbcompile.spec import Spec, load_spec
from pbcompile.stages import Progress, Stages

BASE = "fused"
NEEDED = ("unfused_predict", "unfused_function", "fused", "fused_preprocess_only")
"""Variants that every report has."""

DESCRIPTIONS = {
    **{f"unfused_{kind}": text for kind, text in UNFUSED.items()},
    "fused": "the .pb: one run of TensorFlow's session",
    "fused_preprocess_only": "the part of the .pb before the network, alone",
    **{peer: text for peer, (text, _) in PEERS.items()},
}

LONG = 10.0
"""Seconds from which on every program is measured in two processes: one is not like the next."""

COMPARABLE = 1e-3
"""Programs whose outputs differ by more than this share of the largest value do not do the same work."""


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    differences: how far each program's answers are from the first one's, relative to the largest value.
    skipped:     one sentence for each program that could not take part.
    notes:       what else a reader must know.
    """

    records: Mapping[str, Record]
    skipped: Mapping[str, str]
    differences: Mapping[str, float]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()
    base: str = BASE

    @property
    def ratios(self) -> dict[str, float]:
        """How many times the base's median each program takes."""
        base = self.records[self.base].timing.p50_ms
        return {name: record.timing.p50_ms / base for name, record in self._programs.items()}

    @property
    def ratio_intervals(self) -> dict[str, Interval]:
        """The same from the medians of the same rounds, with how well it is known."""
        base = self.records[self.base].medians
        return {name: ratio_interval(record.medians, base) for name, record in self._programs.items()}

    @property
    def _programs(self) -> dict[str, Record]:
        """All that do the whole work."""
        return {name: record for name, record in self.records.items() if name != "fused_preprocess_only"}

    @property
    def warnings(self) -> list[str]:
        """Why the figures may not be what they seem."""
        intervals = {name: record.interval for name, record in self.records.items()}
        noise = noise_warnings(
            intervals, self.ratio_intervals, self.base, self.environment["load"], self.environment["cpus"]
        )
        other = [
            f"{name} does not give the same answers (off by {difference:.2g} of the largest value)"
            for name, difference in self.differences.items()
            if difference > COMPARABLE
        ]
        return [*self.notes, *noise, *other]

    def split(self, name: str) -> dict[str, float] | None:
        """Milliseconds of decoding, of the other steps, and of what is left; None for what cannot be taken apart."""
        record = self.records[name]
        whole = record.timing.p50_ms
        if name == BASE and "fused_preprocess_only" in self.records:
            head = self.records["fused_preprocess_only"]
            return _split(whole, head.timing.p50_ms, head.parts.get("decode"))
        if "prepare" in record.parts:
            return _split(whole, float(np.median(record.parts["prepare"])), record.parts.get("decode"))
        return None

    def as_json(self) -> dict[str, Any]:
        """The fields that spec-format.md promises for `bench`, and more."""
        return {
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "variants": {name: self._variant(name) for name in self.records},
            "ratios": self.ratios,
            "ratio_intervals": {name: [found.low, found.high] for name, found in self.ratio_intervals.items()},
            "skipped": dict(self.skipped),
            "warnings": self.warnings,
        }

    def _variant(self, name: str) -> dict[str, Any]:
        record = self.records[name]
        times, interval = sorted(record.times), record.interval
        difference = self.differences.get(name, math.inf)
        return {
            "what": DESCRIPTIONS.get(name, ""),
            **asdict(record.timing),
            "interval_ms": [interval.low, interval.high],
            "settled": interval.is_settled,
            "rounds_ms": record.medians,
            "quantiles_ms": [quantile(times, share / 100) for share in range(101)],
            "import_ms": record.start("import_ms"),
            "start_ms": record.start("load_ms"),
            "peak_mb": record.peak_mb,
            "throughput": {str(batch): rate for batch, rate in record.throughput.items()},
            "split": self.split(name),
            "largest_difference": difference if math.isfinite(difference) else None,
        }


def _split(whole: float, prepare: float, decodes: Sequence[float] | None) -> dict[str, float]:
    decode = float(np.median(decodes)) if decodes else 0.0
    return {
        "decode_ms": decode,
        "preprocess_ms": max(0.0, prepare - decode),
        "network_ms": max(0.0, whole - prepare),
    }


def bench_spec(
    spec: Spec | str | Path,
    artifact: str | Path | None = None,
    *,
    against: Sequence[str] = (),
    batches: Sequence[int] = (1, 8),
    seconds: float = 60.0,
    threads: int | None = None,
    grappler: bool = True,
    progress: Progress | None = None,
    witness: Witness | None = None,
) -> BenchReport:
    """Time the artifact against the unfused programs and any peers.

    artifact: the `.pb`, instead of the spec's.  against: keys of PEERS.  batches: sizes to take the throughput at,
    where the spec leaves the batch open.  seconds: the most that is measured, starting processes not counted; less
    where every median is settled before.  threads: for every runtime and OpenCV; all CPUs where left out.
    grappler: whether TensorFlow may optimize graphs when they are loaded.  witness: told what was made.
    """
    check_peers(against)
    if artifact is not None:
        read_artifact(Path(artifact))  # before anything slow
    stages = Stages(progress)
    spec = spec if isinstance(spec, Spec) else load_spec(spec)
    about = environment(threads or available_cpus())
    with tempfile.TemporaryDirectory(prefix="pbcompile-bench-") as name, spec.text.locating():
        folder = Path(name)
        base = Contender("pb", spec.path.absolute(), bench_image(spec, folder), about["threads"], grappler=grappler)
        made = build(spec, stages)
        if witness:
            witness(made, None)
        with stages("convert"):
            fused, note = fused_contender(made, Path(artifact).absolute() if artifact else None, base, folder)
            networks, skipped = network_contenders(made.model, against, base, folder)
            contenders = {
                "unfused_predict": Contender("predict", base.spec, base.image, base.threads, grappler=grappler),
                "unfused_function": Contender("function", base.spec, base.image, base.threads, grappler=grappler),
                **{name: networks.pop(name) for name in ("unfused_frozen",) if name in networks},
                "fused": fused,
                "fused_preprocess_only": preprocess_contender(made, base, folder),
                **networks,
            }
        settings = Settings(seconds, 2 if seconds >= LONG else 1, batches if open_batch(spec) else ())
        records, failed = run_contenders(contenders, settings, folder, progress, NEEDED)
        differences = compare_answers(folder, list(records))
        feeds = {key: _described(value) for key, value in make_feeds(spec, base.image).items()}
        image = base.image.name if base.image.parent != folder else "built-in frame, 480 x 640"
    said = {
        "spec": str(spec.path),
        "artifact": str(artifact or spec.artifact),
        "level": spec.level,
        "seconds": seconds,
        "processes": settings.processes,
        "threads": about["threads"],
        "grappler": grappler,
        "image": image,
        "feeds": feeds,
    }
    about["load_after"] = round(load(), 2)
    return BenchReport(records, skipped | failed, differences, about, said, [note] if note else [])


def run_contenders(
    contenders: Mapping[str, Contender],
    settings: Settings,
    folder: Path,
    progress: Progress | None,
    needed: Sequence[str] = (),
) -> tuple[dict[str, Record], dict[str, str]]:
    """`measure`, telling `progress` what is running and how much of the time is over."""
    report = progress or (lambda stage, done, total: None)
    total = max(1, round(settings.seconds))

    def tell(what: str, share: float) -> None:
        report(what, min(round(share * total), total - 1), total)

    report("rounds", 0, total)
    found = measure(contenders, settings, folder, tell, needed)
    report("rounds", total, total)
    return found


def compare_answers(folder: Path, names: Sequence[str]) -> dict[str, float]:
    """How far each program's answers, as `<name>.npz` in `folder`, are from those of the first.

    Only float outputs count where there are any: an index of two near scores may turn over.
    """
    answers = {name: dict(np.load(folder / f"{name}.npz")) for name in names}
    first = answers[names[0]]
    prepared = {name.removeprefix("prepared/"): value for name, value in first.items() if name.startswith("prepared/")}
    differences = {}
    for name, found in answers.items():
        wanted = prepared if name == "fused_preprocess_only" else first
        shared = [key for key in wanted if key in found]
        floats = [key for key in shared if wanted[key].dtype.kind == "f"]
        each = [largest_difference(wanted[key], found[key]) for key in floats or shared]
        differences[name] = max(each, default=math.inf)
    return differences


def largest_difference(wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Numbers: relative to the largest wanted value.  Everything else: the share of values that differ."""
    if wanted.shape != got.shape:
        return float("inf")
    if wanted.dtype.kind != "f":
        return float(np.mean(wanted != got)) if wanted.size else 0.0
    scale = float(np.max(np.abs(wanted), initial=0.0)) or 1.0  # of NaN, NaN: not finite below
    difference = float(np.max(np.abs(wanted.astype(np.float64) - got), initial=0.0)) / scale
    return difference if math.isfinite(difference) else math.inf


def _described(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"dtype": "string", "shape": [], "bytes": len(value)}
    array = np.asarray(value)
    return {"dtype": "string" if array.dtype == object else str(array.dtype), "shape": list(array.shape)}
