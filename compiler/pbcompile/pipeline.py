"""The whole compiler on one screen: spec.json and a model file in, one proven `.pb` out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from pbcompile.advice import find_warnings
from pbcompile.artifact import add_contract, make_contract, require_folder, sha256_of, write_atomically
from pbcompile.errors import ParityError
from pbcompile.freeze import freeze, require_finite
from pbcompile.gate import head_of, run_gate
from pbcompile.graft import graft
from pbcompile.graph import Graph, lint, portable_graph_def, serialize
from pbcompile.models import load_model
from pbcompile.passes import optimize
from pbcompile.plan import make_plan
from pbcompile.quantize import store_weights
from pbcompile.result import Compiled, CompileResult, Witness
from pbcompile.samples import make_samples
from pbcompile.session import Worker
from pbcompile.spec import Spec, load_spec
from pbcompile.stages import Progress, Stages
from pbcompile.verify import VerifyReport, derived_tolerance


def compile_spec(
    spec: Spec | str | Path,
    output: str | Path | None = None,
    *,
    verify: bool = True,
    progress: Progress | None = None,
    witness: Witness | None = None,
) -> CompileResult:
    """Compile a spec, prove the artifact, and write it.

    spec:   a loaded spec or the path of one.  output: where to write, instead of the spec's `artifact`.
    witness: told what was made and found, also when the answer is no.
    Raises SpecError, ModelError, and ParityError when the gate says no; then nothing is written.
    """
    stages = Stages(progress)
    with stages("read"):
        spec = spec if isinstance(spec, Spec) else load_spec(spec)
        target = Path(output) if output else spec.artifact
        require_folder(target)
        samples = make_samples(spec) if verify else []
    with Worker() if verify else nullcontext() as worker, spec.text.locating():
        made = build(spec, stages)
        found = None
        if worker:
            with stages("verify", len(samples)) as advance:
                found = run_gate(made, None, samples, worker, advance)
        if witness:
            witness(made, found)
        if found and not found.passed:
            raise ParityError(*found.problems)
    with stages("write"):
        write_atomically(target, made.data)
    return CompileResult(target, sha256_of(made.data), made, found, stages.seconds)


def build(spec: Spec, stages: Stages) -> Compiled:
    """The artifact's bytes, without proof."""
    with stages("load model"):
        model = load_model(spec.model)
        plan = make_plan(spec, model.inputs, model.outputs)
    with stages("trace and freeze"):
        inputs, outputs = [item.name for item in spec.inputs], list(plan.output_types)
        traced = graft(plan, model)
        require_finite(traced, model, spec.model)
        frozen = freeze(traced, inputs, [*outputs, *(tap.node for tap in plan.spec.taps)])
        head = head_of(spec, frozen)
    with stages("optimize"):
        graph = Graph.from_graph_def(frozen, inputs, outputs)
        frozen_bytes = frozen.ByteSize()
        del frozen  # each of these is as large as the model
        report = optimize(graph, spec.level)
        graph_def = portable_graph_def(graph)
        tolerance = derived_tolerance(graph_def)
        if spec.weights:
            tolerance += store_weights(graph, spec.weights, inputs)
            lint(graph, after="store-weights")
            graph_def = portable_graph_def(graph)
        del graph
        add_contract(graph_def, make_contract(plan, model, report, tolerance))
    warnings = tuple(
        spec.text.locate(problem) for problem in find_warnings(plan, model.preprocessing, model.activations)
    )
    return Compiled(plan, model, head, report, warnings, tolerance, serialize(graph_def), frozen_bytes)


def verify_spec(
    spec: Spec | str | Path,
    artifact: str | Path | None = None,
    *,
    progress: Progress | None = None,
    witness: Witness | None = None,
) -> VerifyReport:
    """A written `.pb` against the original model behind the real libraries, with the likely cause of a difference.

    artifact: the `.pb`, instead of the spec's.  Its inputs and outputs must have the spec's names.
    """
    stages = Stages(progress)
    spec = spec if isinstance(spec, Spec) else load_spec(spec)
    with Worker() as worker, spec.text.locating():
        samples = make_samples(spec)
        made = build(spec, stages)
        with stages("verify", len(samples)) as advance:
            found = run_gate(made, Path(artifact or spec.artifact), samples, worker, advance)
        if witness:
            witness(made, found)
    return found
