"""The whole compiler on one screen: spec.json and a model file in, one proven `.pb` out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pbcompile.artifact import add_contract, make_contract, sha256_of, write_atomically
from pbcompile.errors import ParityError
from pbcompile.freeze import freeze
from pbcompile.graft import graft
from pbcompile.graph import Graph, portable_graph_def, serialize
from pbcompile.models import LoadedModel, load_model
from pbcompile.passes import optimize
from pbcompile.plan import Plan, make_plan
from pbcompile.result import CompileResult
from pbcompile.samples import make_samples
from pbcompile.session import Worker
from pbcompile.spec import Spec, load_spec
from pbcompile.verify import VerifyReport, compare, derived_tolerance, reference_answers

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


def compile_spec(
    spec: Spec | str | Path, output: str | Path | None = None, *, verify: bool = True, progress: Progress | None = None
) -> CompileResult:
    """Compile a spec, prove the artifact, and write it.

    spec:   a loaded spec or the path of one.  output: where to write, instead of the spec's `artifact`.
    Raises SpecError, ModelError, and ParityError when the gate says no; then nothing is written.
    """
    stages = Stages(progress)
    with stages("read"):
        spec = spec if isinstance(spec, Spec) else load_spec(spec)
        target = Path(output) if output else spec.artifact
        samples = make_samples(spec) if verify else []
    with Worker() if verify else nullcontext() as worker, spec.text.locating():
        with stages("load model"):
            model = load_model(spec.model)
            plan = make_plan(spec, model.inputs, model.outputs)
        with stages("trace and freeze"):
            inputs, outputs = [item.name for item in spec.inputs], list(plan.output_types)
            taps = [f"pbcompile/preprocessed/{index}" for index in range(len(inputs))]
            frozen = freeze(graft(plan, model), inputs, outputs + taps)
        with stages("optimize"):
            graph = Graph.from_graph_def(frozen, inputs, outputs)
            report = optimize(graph, spec.level)
            graph_def = portable_graph_def(graph)
            tolerance = derived_tolerance(graph_def)
            add_contract(graph_def, make_contract(plan, model, report, tolerance))
            data = serialize(graph_def)
        found = _gate(plan, model, frozen, taps, data, tolerance, samples, worker, stages) if worker else None
    with stages("write"):
        write_atomically(target, data)
    return CompileResult(target, len(data), sha256_of(data), plan, report, model.repairs, found, stages.seconds)


def _gate(
    plan: Plan,
    model: LoadedModel,
    frozen: Any,
    taps: list[str],
    data: bytes,
    tolerance: float,
    samples: list[Any],
    worker: Worker,
    stages: Stages,
) -> VerifyReport:
    """The artifact in its own process against the real libraries and the model.  ParityError when they differ."""
    names = [item.name for item in plan.spec.inputs]
    with stages("verify", len(samples)) as advance, tempfile.TemporaryDirectory() as folder:
        head = Graph.from_graph_def(frozen, names, taps)
        optimize(head, "canonical")
        artifact, preprocess = Path(folder, "artifact.pb"), Path(folder, "preprocess.pb")
        artifact.write_bytes(data)
        preprocess.write_bytes(serialize(portable_graph_def(head)))
        expected = reference_answers(plan, model, samples, advance)
        feeds = [sample.feeds for sample in samples]
        tapped = worker.run(preprocess, taps, feeds)
        prepared = [{name: got[tap] for name, tap in zip(names, taps, strict=True)} for got in tapped]
        outputs = worker.run(artifact, list(plan.output_types), feeds)
        report = compare(plan, samples, expected, prepared, outputs, tolerance)
    if not report.passed:
        raise ParityError(*report.problems)
    return report


class Stages:
    """Times the stages of a compile and tells `progress` about them: `with stages("verify", 8) as advance: …`."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or (lambda stage, done, total: None)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, total: int = 1) -> Iterator[Callable[[], None]]:
        """Run one stage of `total` parts; the caller says `advance()` after each part."""
        started, done = time.perf_counter(), 0

        def advance() -> None:
            nonlocal done
            done += 1
            self.progress(stage, min(done, total - 1), total)

        self.progress(stage, 0, total)
        yield advance
        self.seconds[stage] = round(time.perf_counter() - started, 3)
        self.progress(stage, total, total)
