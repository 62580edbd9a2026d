"""Batch norm with fixed statistics is a multiplication and an addition."""

from __future__ import annotations

import numpy as np

from pbcompile.graph import Decline, Graph, Match, Rule
from pbcompile.graph.pattern import Any, Const, op
from pbcompile.passes import affine
from pbcompile.passes.affine import PerChannel


class DecomposeBatchNorm(Rule):
    """Write a fused batch norm as Mul + AddV2, the form that the folding passes read.

    Before:  x ─► FusedBatchNorm*(γ, β, μ, σ²; ε) ─► y
    After:   x ─► Mul(γ/√(σ² + ε)) ─► AddV2(β − μ·γ/√(σ² + ε)) ─► y

    Exact in real arithmetic; computed in float64, rounded once.
    Declines when:
      1. it is in training mode: the statistics come from the batch
      2. one of its other outputs (the statistics) is read
    """

    name = "decompose-batch-norm"
    pattern = op(
        "FusedBatchNorm|FusedBatchNormV2|FusedBatchNormV3",
        Any("x"), Const("gamma"), Const("beta"), Const("mean"), Const("variance"),
    )  # fmt: skip

    def rewrite(self, graph: Graph, match: Match) -> str:
        """Mul + AddV2 with the same numbers."""
        node = match.root
        if node.attr("is_training"):
            raise Decline(f'"{node.name}" is in training mode')
        if len(graph.readers(node.name)) != graph.reader_count(node):
            raise Decline(f'the statistics that "{node.name}" gives out are read')
        scale, shift = affine.batch_norm_affine(
            match.exact("gamma"), match.exact("beta"), match.exact("mean"), match.exact("variance"),
            float(np.float32(node.attr("epsilon"))), graph.dtype(node.name),
        )  # fmt: skip
        rank = 5 if len(node.attr("data_format")) == 5 else 4
        axis = 1 if node.attr("data_format").startswith("NC") else rank - 1
        dtype = graph.dtype(node.name)
        factor = graph.add_const(PerChannel(scale, axis).shaped(rank), dtype, f"{node.name}/scale")
        offset = graph.add_const(PerChannel(shift, axis).shaped(rank), dtype, f"{node.name}/shift")
        scaled = graph.add("Mul", [match.tensor("x"), factor], name=f"{node.name}/Mul")
        shifted = graph.add("AddV2", [scaled, offset], name=f"{node.name}/AddV2")
        graph.label(scaled, node.stands_for)
        graph.label(shifted, node.stands_for)
        return shifted
