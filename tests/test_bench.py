"""`bench`: what its figures mean, and that every program in it does the same work.  No time is asserted."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pbcompile.bench import figures
from pbcompile.bench.benchmark import NEEDED, BenchReport, compare_answers, largest_difference
from pbcompile.bench.contender import PEERS, Contender, Network, NetworkEnd, why_missing
from pbcompile.bench.environment import environment
from pbcompile.bench.figures import Interval, median_interval, noise_warnings, quantile, ratio_interval
from pbcompile.bench.rounds import Record, Settings, measure
from pbcompile.bench.table import render
from pbcompile.errors import PbcompileError, Problem

# ---- figures --------------------------------------------------------------------------------------------------------


def test_a_quantile_is_a_value_that_was_measured() -> None:
    times = [float(value) for value in range(1, 101)]
    assert [quantile(times, share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 50, 90, 99, 100]
    assert quantile([3.0], 0.5) == quantile([3.0], 0.99) == 3.0


@pytest.mark.parametrize(
    ("count", "low", "high", "confidence"),
    [
        (1, 1, 1, 0.0),
        (2, 1, 2, 0.5),
        (5, 1, 5, 1 - 2 / 32),
        (6, 1, 6, 1 - 2 / 64),
        (9, 2, 8, 1 - 2 * 10 / 512),
        (20, 6, 15, 0.9586),
        (100, 40, 61, 0.9648),
    ],
)
def test_the_interval_of_a_median_is_the_table_s(count: int, low: int, high: int, confidence: float) -> None:
    """The order statistics of sign-test tables: of 20 values the 6th and 15th, of 100 the 40th and 61st."""
    found = median_interval([float(value) for value in reversed(range(1, count + 1))])
    assert (found.low, found.high) == (low, high)
    assert found.confidence == pytest.approx(confidence, abs=1e-4)
    assert found.median == (count + 1) / 2


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """Rounds with a long tail, as machines give them."""
    generator = np.random.default_rng(0)
    draws = generator.lognormal(0.0, 0.5, (2000, 12))
    held = np.mean([median_interval(list(rounds)).holds(1.0) for rounds in draws])
    confidence = median_interval(list(draws[0])).confidence
    assert held == pytest.approx(confidence, abs=3 * math.sqrt(confidence * (1 - confidence) / len(draws)))


def test_few_rounds_are_never_settled_however_close_they_are() -> None:
    assert not median_interval([5.0] * (figures.LEAST_ROUNDS - 1)).is_settled
    assert median_interval([5.0] * figures.LEAST_ROUNDS).is_settled
    assert not median_interval([5.0, 5.2] * figures.LEAST_ROUNDS).is_settled


def test_a_ratio_is_taken_within_rounds_so_that_a_slow_spell_does_not_count() -> None:
    base = [10.0, 10.0, 30.0, 30.0, 10.0, 30.0]
    slower = [value * 1.5 for value in base]
    assert ratio_interval(slower, base).is_settled
    assert ratio_interval(slower, base).median == pytest.approx(1.5)
    assert not median_interval(slower).is_settled


def test_what_cannot_be_told_apart_is_said() -> None:
    quiet = Interval(10.0, 9.95, 10.05, 0.96)
    intervals = {"fused": quiet, "unfused_frozen": quiet}
    ratios = {"fused": Interval(1.0, 1.0, 1.0, 0.96), "unfused_frozen": Interval(1.01, 0.97, 1.04, 0.96)}
    assert noise_warnings(intervals, ratios, "fused", 0.1, 2) == [
        "too noisy to tell unfused_frozen and fused apart: ratio 0.970 to 1.040"
    ]
    apart = ratios | {"unfused_frozen": Interval(1.2, 1.15, 1.24, 0.96)}
    assert noise_warnings(intervals, apart, "fused", 0.1, 2) == []


def test_a_busy_machine_and_unsettled_medians_are_said() -> None:
    wide = Interval(10.0, 9.0, 11.0, 0.96)
    few = Interval(10.0, 9.99, 10.01, 0.75)
    busy, unsettled = noise_warnings({"fused": wide, "a": few}, {}, "fused", 3.0, 2)
    assert busy == "the machine was busy before anything was started: load 3.0 on 2 CPUs"
    assert "fused (9 to 11 ms)" in unsettled
    assert "a (9.99 to 10.01 ms, too few rounds)" in unsettled


def record(*rounds: list[float], **parts: list[float]) -> Record:
    start = {"first_ms": 50.0, "import_ms": 1000.0, "load_ms": 20.0}
    return Record(list(rounds), [start], dict(parts), {1: 100.0}, 300.0)


@pytest.fixture
def report() -> BenchReport:
    """Six rounds with made-up times."""
    records = {
        "unfused_predict": record(*[[90.0, 92.0, 91.0]] * 6, prepare=[5.0], decode=[3.0]),
        "fused": record(*[[10.0, 10.0, 40.0]] * 6),
        "fused_preprocess_only": record(*[[4.0]] * 6, decode=[2.5]),
    }
    feeds = {"image": {"dtype": "string", "shape": []}}
    settings = {"artifact": "a.pb", "level": "canonical", "grappler": True, "threads": 2, "image": "x", "feeds": feeds}
    return BenchReport(records, {"litert": "no"}, {"fused": 0.5}, environment(2) | {"load": 0.0}, settings, ["a note"])


def test_ratios_are_of_medians_over_all_calls(report: BenchReport) -> None:
    """The preprocessing alone does not do the whole work, so it has no ratio."""
    assert report.ratios == {"unfused_predict": 9.1, "fused": 1.0}
    timing = report.records["fused"].timing
    assert (timing.first_ms, timing.min_ms, timing.p50_ms, timing.p90_ms, timing.runs) == (50.0, 10.0, 10.0, 40.0, 18)


def test_the_split_adds_up_to_the_median(report: BenchReport) -> None:
    assert report.split("unfused_predict") == {"decode_ms": 3.0, "preprocess_ms": 2.0, "network_ms": 86.0}
    assert report.split("fused") == {"decode_ms": 2.5, "preprocess_ms": 1.5, "network_ms": 6.0}
    assert report.split("fused_preprocess_only") is None


def test_other_answers_and_notes_are_warnings(report: BenchReport) -> None:
    assert report.warnings == ["a note", "fused does not give the same answers (off by 0.5 of the largest value)"]
    text = render(report.as_json())
    assert "! a note" in text
    assert "litert is not here: no" in text
    assert max(map(len, text.splitlines()[3:])) <= 110


# ---- rounds ---------------------------------------------------------------------------------------------------------


class ScriptedChild:
    """A child without a process: notes when it is asked, and fails where its name says so."""

    asked: ClassVar[list[str]] = []

    def __init__(self, name: str, contender: Contender) -> None:
        self.name = name
        self.started = {"import_ms": 1.0, "load_ms": 1.0, "first_ms": 1.0, "parts": ["prepare"]}
        self._fail("start")

    def _fail(self, where: str) -> None:
        self.asked.append(f"{where} {self.name}")
        if where in self.name:
            raise PbcompileError(Problem("bench-failed", f"{self.name} fell over"))

    def time(self, seconds: float, batch: int | None = None, part: str = "") -> list[float]:
        self._fail(f"batch {batch}" if batch else part or "turn")
        return [1.0, 1.0, 1.0]

    def ask(self, **order: Any) -> dict[str, Any]:
        return {"peak_mb": 1.0}

    def close(self) -> None:
        self.asked.append(f"close {self.name}")


def measure_scripted(
    monkeypatch: pytest.MonkeyPatch, names: list[str], needed: list[str]
) -> tuple[dict[str, Record], dict[str, str], list[str]]:
    monkeypatch.setattr("pbcompile.bench.rounds.Child", ScriptedChild)
    monkeypatch.setattr(ScriptedChild, "asked", [])
    contenders = {name: Contender("predict", Path("s"), Path("i"), 1) for name in names}
    records, skipped = measure(contenders, Settings(1e-9, 2, (8,)), Path(), lambda what, share: None, needed)
    return records, skipped, ScriptedChild.asked


def test_programs_take_turns_and_every_one_gets_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    records, skipped, asked = measure_scripted(monkeypatch, ["a", "b"], ["a", "b"])
    assert skipped == {}
    once = ["start a", "start b", "turn a", "turn b", "prepare a", "prepare b"]
    last = ["batch 8 a", "batch 8 a", "close a", "batch 8 b", "batch 8 b", "close b"]
    assert asked == [*once, "close a", "close b", *once, *last, "close a", "close b"]
    assert [len(record.starts) for record in records.values()] == [2, 2]
    assert records["a"].throughput == {8: 8000.0}
    assert records["a"].rounds == [[1.0] * 3] * 2


def test_a_batch_that_cannot_be_run_costs_only_its_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    records, skipped, _ = measure_scripted(monkeypatch, ["a", "no batch 8"], ["a", "no batch 8"])
    assert skipped == {"no batch 8, 8 at once,": "no batch 8 fell over"}
    assert [record.throughput for record in records.values()] == [{8: 8000.0}, {}]


@pytest.mark.parametrize("where", ["start", "turn", "prepare"])
def test_a_program_that_fails_leaves_with_a_sentence(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    name = f"fails at {where}"
    records, skipped, _ = measure_scripted(monkeypatch, ["a", name, "b"], ["a", "b"])
    assert skipped == {name: f"{name} fell over"}
    assert list(records) == ["a", "b"]
    assert [len(record.rounds) for record in records.values()] == [2, 2]
    with pytest.raises(PbcompileError, match="fell over"):
        measure_scripted(monkeypatch, ["a", name], ["a", name])


# ---- answers, contenders, peers -------------------------------------------------------------------------------------


def test_differences_are_relative_and_never_hidden_by_nan() -> None:
    wanted = np.array([0.0, 4.0], np.float32)
    assert largest_difference(wanted, np.array([0.1, 4.0], np.float32)) == pytest.approx(0.025)
    assert largest_difference(wanted, np.array([np.nan, 4.0], np.float32)) == math.inf
    assert largest_difference(np.array([np.nan]), np.array([1.0])) == math.inf
    assert largest_difference(wanted, wanted[:1]) == math.inf
    assert largest_difference(np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3])) == 0.5


def test_indices_count_only_where_there_is_no_score(tmp_path: Path) -> None:
    scores, indices = np.array([0.5, 0.5]), np.array([0, 1])
    np.savez(tmp_path / "a.npz", scores=scores, indices=indices)
    np.savez(tmp_path / "b.npz", scores=scores, indices=indices[::-1])
    assert compare_answers(tmp_path, ["a", "b"]) == {"a": 0.0, "b": 0.0}
    np.savez(tmp_path / "a.npz", indices=indices)
    assert compare_answers(tmp_path, ["a", "b"])["b"] == 1.0


def test_a_contender_survives_the_way_to_its_process() -> None:
    end = NetworkEnd("input_1", "x", "float32", (None, 8, 8, 3))
    network = Network((end,), (NetworkEnd("out", "Identity", "float32", None),))
    given = Contender("frozen", Path("/s.json"), Path("/i.jpg"), 2, Path("/n.pb"), network, grappler=False)
    assert Contender.from_json(given.as_json()) == given
    plain = Contender("predict", Path("/s.json"), Path("/i.jpg"), 1)
    assert Contender.from_json(plain.as_json()) == plain


def test_a_missing_peer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbcompile.bench.contender.installed", lambda package: None)
    assert why_missing("openvino") == "openvino is not installed: pip install 'pbcompile[peers]'"
    assert why_missing("onnxruntime") == "onnxruntime and tf2onnx are not installed: pip install 'pbcompile[peers]'"
    monkeypatch.setattr("pbcompile.bench.contender.installed", lambda package: "1.0")
    assert [why_missing(peer) for peer in PEERS] == [None] * len(PEERS)


def test_the_benchmark_sets_models_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a program, one column a model, against the .pb of both levels."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import latency

    ratios = {"unfused_frozen": 1.5, "fused": 1.0, "fused_cpu": 0.75}
    lines = latency.summary({"a_224": {"ratios": ratios}, "b_96": {"ratios": {"fused": 1.0, "litert": 0.5}}})
    assert [line.split() for line in lines if "─" not in line] == [
        ["times", "fused", "/", "fused_cpu", "a_224", "b_96"],
        ["unfused_frozen", "1.50", "/", "2.00"],
        ["fused", "1.00", "/", "1.33", "1.00"],
        ["fused_cpu", "0.75", "/", "1.00"],
        ["litert", "0.50"],
    ]


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a batch norm behind decoding, resize and rescale."""
    import keras

    folder = tmp_path_factory.mktemp("bench")
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.layers.Input((16, 16, 3), name="pixels"),
            keras.layers.Conv2D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="scores"),
        ]
    )
    model.layers[1].set_weights([np.array(w) for w in ([2.0, -1, 1, 1], [0.1] * 4, [0.2] * 4, [0.5] * 4)])
    model.save(folder / "small.keras")
    resize = {"op": "resize", "size": [16, 16], "method": "linear", "like": "opencv"}
    steps = [resize, {"op": "rescale", "scale": 1 / 255}]
    document = {
        "version": 1,
        "model": "small.keras",
        "inputs": {"image": {"kind": "encoded", "channels": "RGB", "preprocess": steps}},
    }
    (folder / "spec.json").write_text(json.dumps(document))
    return folder / "spec.json"


@pytest.fixture(scope="module")
def measured(spec: Path) -> dict[str, Any]:
    """One short run with a peer, as the command prints it."""
    from pbcompile.cli import main

    words = ["bench", str(spec), "--against", "openvino", "litert", "--seconds", "1", "--threads", "1", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code, out.getvalue()
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_every_promised_field_is_there(measured: dict[str, Any]) -> None:
    assert set(NEEDED) <= set(measured["variants"])
    assert "unfused_frozen" in measured["variants"]
    for variant in measured["variants"].values():
        times = [variant[key] for key in ("min_ms", "p50_ms", "p90_ms", "p99_ms")]
        assert times == sorted(times)
        assert times[0] > 0
        assert variant["first_ms"] > 0
        assert variant["start_ms"] > 0
        assert variant["runs"] >= 3
        assert variant["peak_mb"] > 50
        assert len(variant["quantiles_ms"]) == 101
    about = measured["environment"]
    assert about["cpu"]
    assert about["versions"]["tensorflow"]
    assert about["threads"] == measured["settings"]["threads"] == 1
    assert {"flags", "load", "cpus", "python", "variables"} <= set(about)


def test_the_ratios_are_those_of_the_medians(measured: dict[str, Any]) -> None:
    base = measured["variants"]["fused"]["p50_ms"]
    assert set(measured["ratios"]) == set(measured["variants"]) - {"fused_preprocess_only"}
    for name, ratio in measured["ratios"].items():
        assert ratio == pytest.approx(measured["variants"][name]["p50_ms"] / base)


def test_every_program_gives_the_same_answers(measured: dict[str, Any]) -> None:
    """To float noise: sums of 27 products, then of 196 pixels, in another order."""
    for name, variant in measured["variants"].items():
        assert variant["largest_difference"] is not None, name
        assert variant["largest_difference"] <= 1e-5, name
    assert measured["variants"]["unfused_predict"]["largest_difference"] == 0


def test_the_split_of_encoded_images_has_a_decoding_part(measured: dict[str, Any]) -> None:
    for name in ("unfused_predict", "unfused_function", "unfused_frozen", "fused"):
        assert measured["variants"][name]["split"]["decode_ms"] > 0, name


def test_a_peer_that_is_not_installed_is_skipped_with_its_reason(measured: dict[str, Any]) -> None:
    for peer in ("openvino", "litert"):
        why = why_missing(peer)
        assert (peer in measured["variants"]) == (why is None)
        assert measured["skipped"].get(peer) == why


def test_an_artifact_that_was_not_written_is_compiled_and_said(measured: dict[str, Any]) -> None:
    assert "spec.pb is not written: it was compiled for this run" in measured["warnings"]


def test_an_unknown_peer_and_a_missing_artifact_are_told_at_once(run: Callable[..., Any], spec: Path) -> None:
    done = run("bench", spec, "--against", "openvinno", "--json")
    assert done.code == 2
    (problem,) = done.json()["error"]["problems"]
    assert problem["message"] == 'there is no peer "openvinno"'
    assert problem["hint"] == 'did you mean "openvino"?'
    done = run("bench", spec, "--pb", "nowhere.pb", "--json")
    assert done.code == 2
    assert "nowhere.pb" in done.json()["error"]["message"]
