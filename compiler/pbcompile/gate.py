"""The gate: an artifact in a fresh process and a stock session against the unfused program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pbcompile.diagnose import likely_cause
from pbcompile.errors import Problem
from pbcompile.graph import Graph, portable_graph_def, serialize
from pbcompile.models.original import original_predict
from pbcompile.passes import optimize
from pbcompile.result import Compiled
from pbcompile.samples import Sample
from pbcompile.session import Worker
from pbcompile.side_by_side import side_by_side
from pbcompile.spec import Spec
from pbcompile.verify import Expected, VerifyReport, compare, differing_step, reference_answers, with_floors


def run_gate(
    made: Compiled, artifact: Path | None, samples: Sequence[Sample], worker: Worker, advance: Callable[[], None]
) -> VerifyReport:
    """Compare on every sample.

    artifact: a written `.pb`; None is what was just made.  When the answer is no, the report says where the two
    programs part and, for a written `.pb`, which known mistake explains its numbers.
    """
    plan = made.plan
    feeds = [sample.feeds for sample in samples]
    final = {tap.input: tap.node for tap in plan.spec.taps}
    original, predict = original_predict(plan.spec.model, made.model)
    expected = reference_answers(plan, predict, samples, advance)
    tapped = worker.run(made.head, list(final.values()), feeds)
    prepared = [{name: got[node] for name, node in final.items()} for got in tapped]
    outputs = worker.run(made.data if artifact is None else artifact, list(plan.output_types), feeds)
    report = compare(plan, samples, expected, prepared, outputs, made.tolerance, original)
    if not report.passed:
        expected = with_floors(plan, predict, expected)
        report = compare(plan, samples, expected, prepared, outputs, made.tolerance, original)
    report = replace(report, answers=side_by_side(plan, samples, expected, outputs))
    if report.passed:
        return report
    if artifact is None:
        return _with_step(made, report, samples, worker)
    return _with_cause(made, report, samples, expected, outputs, artifact)


def head_of(spec: Spec, frozen: Any) -> bytes:
    """The preprocessing alone, with a tap after each step, as the bytes of its own graph file.

    frozen: a frozen GraphDef with the spec's taps among its nodes; its weights are not copied.
    """
    names = [item.name for item in spec.inputs]
    taps = [tap.node for tap in spec.taps]
    nodes = {node.name: node for node in frozen.node}
    needed, pending = set(names), list(taps)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [tensor.lstrip("^").partition(":")[0] for tensor in nodes[name].input]
    part = type(frozen)(versions=frozen.versions, node=[node for node in frozen.node if node.name in needed])
    head = Graph.from_graph_def(part, names, taps)
    optimize(head, "none")
    return serialize(portable_graph_def(head))


def _with_step(made: Compiled, report: VerifyReport, samples: Sequence[Sample], worker: Worker) -> VerifyReport:
    """The report with the first step that differs, if it is one of ours."""
    plan = made.plan
    if not report.first_divergence or report.first_divergence["stage"] != "preprocess":
        return report
    got = worker.run(made.head, [tap.node for tap in plan.spec.taps], [sample.feeds for sample in samples])
    step = differing_step(plan, samples, got)
    return replace(report, first_divergence={**report.first_divergence, "layer": step or "model input"})


def _with_cause(
    made: Compiled,
    report: VerifyReport,
    samples: Sequence[Sample],
    expected: Sequence[Expected],
    outputs: Sequence[Mapping[str, Any]],
    artifact: Path,
) -> VerifyReport:
    """The report with the known mistake that explains the artifact's numbers."""
    cause = likely_cause(made, samples, expected, outputs, artifact)
    if cause is None:
        return report
    problem = Problem("parity-cause", f"the likely cause: {cause.message}", cause.pointer)
    where = {"stage": cause.stage, "layer": cause.layer, "cause": cause.message}
    return replace(report, problems=(*report.problems, problem), first_divergence=where)
