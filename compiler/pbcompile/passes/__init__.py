"""The passes, in their order, and `optimize`, which runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pbcompile.graph import Graph, Outcome, Rule, apply_rules, lint, promise_of
from pbcompile.passes.affine_to_depthwise import AffineToDepthwise
from pbcompile.passes.batch_norm import LABEL, mark_batch_norms
from pbcompile.passes.decompose_batch_norm import DecomposeBatchNorm
from pbcompile.passes.drop_control_edges import drop_control_edges
from pbcompile.passes.fix_shapes import fix_shapes
from pbcompile.passes.fold_affine import (
    FoldDivisionIntoConv,
    FoldScaleIntoConv,
    FoldShiftIntoBias,
    FoldSubtractionIntoBias,
    MergeBiases,
)
from pbcompile.passes.fold_channel_order import fold_channel_order
from pbcompile.passes.fold_constants import fold_constants
from pbcompile.passes.fold_forward import FoldScaleForward, FoldShiftForward
from pbcompile.passes.fold_padding import FoldPaddingIntoConv, SplitExplicitPadding
from pbcompile.passes.merge_duplicates import merge_duplicates
from pbcompile.passes.pointwise_to_matmul import (
    CancelReshapes,
    DropReducedSizes,
    PointwiseToMatmul,
    SinkReshape,
    SinkReshapeBelowAdd,
    SinkReshapeBelowSwish,
)
from pbcompile.passes.remove_identities import RemoveNeutralConstants, RemoveNeutralOperands, remove_identities
from pbcompile.passes.report import BatchNormReport, CompileReport, FoldedBatchNorm, KeptBatchNorm, PassReport

__all__ = ["LEVELS", "PIPELINE", "BatchNormReport", "CompileReport", "Position", "optimize"]

LEVELS = ("none", "canonical", "tensorflow-cpu")
"""Each level runs the passes of those before it, and its own."""


@dataclass(frozen=True)
class Position:
    """One place in the pipeline: a pass, why it stands here, and from which level on it runs."""

    name: str
    run: Callable[[Graph], Outcome]
    why: str
    level: str = "canonical"


def rules(*given: Rule, backwards: bool = False) -> Callable[[Graph], Outcome]:
    """A pass that applies these rules until nothing fires."""
    return lambda graph: apply_rules(graph, given, backwards)


PIPELINE: tuple[Position, ...] = (
    Position(
        "drop-control-edges",
        drop_control_edges,
        "first: a control edge hides that a constant is one, and no artifact may have any",
        level="none",
    ),
    Position(
        "split-explicit-padding",
        rules(SplitExplicitPadding()),
        "at every level: the form it removes can abort the process",
        level="none",
    ),
    Position(
        "remove-identities",
        remove_identities,
        "before folding: every frozen variable stands behind an Identity, and evaluating it would copy the weights",
    ),
    Position(
        "fold-constants",
        fold_constants,
        "turns the chains that Keras 3 computes batch norm's scale and shift with into one constant each",
    ),
    Position(
        "fix-shapes",
        fix_shapes,
        "after constants are folded, which axes and permutations are; before folding, which a Shape beside would stop",
    ),
    Position(
        "decompose-batch-norm",
        rules(DecomposeBatchNorm()),
        "after folding, when its inputs are constants; gives both ages of Keras one form",
    ),
    Position(
        "remove-neutral-constants",
        rules(RemoveNeutralConstants(), RemoveNeutralOperands()),
        "after constants are folded, when they can be seen; before folding, which would carry them around",
    ),
    Position(
        "fold-scale-into-conv",
        rules(FoldScaleIntoConv(), FoldDivisionIntoConv(), backwards=True),
        "before shifts, which pass no scale; backwards, so that a chain of scales is one before it meets the weights",
    ),
    Position(
        "fold-shift-into-bias",
        rules(FoldShiftIntoBias(), FoldSubtractionIntoBias(), MergeBiases(), backwards=True),
        "after scales: what is left between a convolution and its shift now commutes",
    ),
    Position(
        "fold-channel-order",
        fold_channel_order,
        "before the forward folds, so that their constants are met in the order in which they stay",
    ),
    Position(
        "fold-scale-forward",
        rules(FoldScaleForward()),
        "after the backward folds: what is left has nothing linear before it; before shifts, which it then divides",
    ),
    Position(
        "fold-shift-forward",
        rules(FoldShiftForward(), MergeBiases()),
        "after scales, so that the response is computed with the final weights",
    ),
    Position(
        "fold-padding-into-conv",
        rules(FoldPaddingIntoConv()),
        "after shifts, which pass VALID but not SAME",
    ),
    Position(
        "pointwise-to-matmul",
        rules(
            PointwiseToMatmul(),
            SinkReshape(),
            SinkReshapeBelowSwish(),
            SinkReshapeBelowAdd(),
            CancelReshapes(),
            DropReducedSizes(),
        ),
        "after every fold into convolutions: the biases stand where they are fused",
        level="tensorflow-cpu",
    ),
    Position(
        "affine-to-depthwise",
        rules(AffineToDepthwise()),
        "after every fold: only a scale and a shift that must stay are worth a convolution",
        level="tensorflow-cpu",
    ),
    Position(
        "merge-duplicates",
        merge_duplicates,
        "last: a convolution that two branches share cannot be folded into",
    ),
)
"""The passes in order.  A position's reason says what goes wrong elsewhere."""


def optimize(graph: Graph, level: str = "canonical") -> CompileReport:
    """Run the passes of `level` on `graph`, in place, with lint after each.

    The passes of level "none" come first and make of a frozen graph a legal one; lint stands between them and the
    rest.
    level: one of `LEVELS`.  PassError when a pass breaks the graph or changes an output's dtype or shape.
    """
    before = Counter(node.op for node in graph)
    layers = mark_batch_norms(graph)
    promise = promise_of(graph)
    contract = sum(position.level == "none" for position in PIPELINE)
    done: list[PassReport] = []
    reasons: dict[str, dict[str, None]] = {}
    for position in PIPELINE:
        if LEVELS.index(position.level) > LEVELS.index(level):
            continue
        outcome = position.run(graph)
        graph.commit()
        done.append(PassReport(position.name, outcome.applied, tuple(outcome.declined)))
        if len(done) == contract or (len(done) > contract and outcome.applied):
            lint(graph, promise, position.name)
        for no in outcome.declined:
            for label in graph.node(no.node).stands_for if no.node in graph else ():
                reasons.setdefault(label, {})[no.reason] = None
    graph.settle_names()
    graph.prune()
    lint(graph, promise, "the last pass")
    norms = _account(graph, layers, level, reasons)
    return CompileReport(level, before.total(), before, len(graph), tuple(done), norms)


def _account(graph: Graph, layers: tuple[str, ...], level: str, reasons: dict[str, dict[str, None]]) -> BatchNormReport:
    standing = {label for node in graph for label in node.stands_for}
    into: dict[str, list[str]] = {}
    for node in graph.sorted():
        for label in sorted(node.absorbed):
            into.setdefault(label, []).append(node.name)
    folded, kept = [], []
    for layer in layers:
        label = LABEL + layer
        if label not in standing:
            folded.append(FoldedBatchNorm(layer, tuple(into.get(label, ()))))
        elif level == "none":
            kept.append(KeptBatchNorm(layer, 'level "none" folds nothing'))
        else:
            kept.append(KeptBatchNorm(layer, "; ".join(reasons.get(label, {"no rule fits it": None}))))
    return BatchNormReport(tuple(folded), tuple(kept))
