"""What a compile makes, and the JSON that other programs rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbcompile.errors import Problem
from pbcompile.models import LoadedModel
from pbcompile.passes import CompileReport
from pbcompile.plan import Plan
from pbcompile.tensor_type import TensorType
from pbcompile.verify import VerifyReport


@dataclass(frozen=True)
class Compiled:
    """An artifact that is not yet proven or written.

    head:      the bytes of the preprocessing alone, as a graph with the spec's taps as its outputs.
    warnings:  what compiles and is probably not meant.
    tolerance: the derived relative tolerance of its float outputs.
    data:      the bytes of the `.pb`.
    frozen:    the size of the frozen graph before any pass, in bytes.
    """

    plan: Plan
    model: LoadedModel
    head: bytes
    report: CompileReport
    warnings: tuple[Problem, ...]
    tolerance: float
    data: bytes
    frozen: int


Witness = Callable[[Compiled, VerifyReport | None], None]
"""Told what was made and what the gate found, before anything is written or refused."""


@dataclass(frozen=True)
class CompileResult:
    """A written artifact: where, its hash, how it was made, what the gate found, seconds by stage."""

    artifact: Path
    sha256: str
    made: Compiled
    verify: VerifyReport | None
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """The fields of `compile --json` (spec-format.md, section 2), with `repairs` and `warnings`."""
        report = self.made.report.as_json()
        return {
            "artifact": str(self.artifact),
            "bytes": len(self.made.data),
            "sha256": self.sha256,
            "inputs": [describe(item.name, item.fed) for item in self.made.plan.spec.inputs],
            "outputs": [describe(name, given) for name, given in self.made.plan.output_types.items()],
            "nodes": report["nodes"],
            "batch_norm": report["batch_norm"],
            "repairs": list(self.made.model.repairs),
            "warnings": [problem.as_json() for problem in self.made.warnings],
            "verify": None if self.verify is None else self.verify.as_json(),
            "seconds": dict(self.seconds),
        }


def describe(name: str, given: TensorType) -> dict[str, Any]:
    """A tensor as JSON: open sizes are null."""
    return {"name": name, "dtype": given.dtype, "shape": list(given.shape)}
