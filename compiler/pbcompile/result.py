"""What a compile gives back, and the JSON that other programs rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbcompile.passes import CompileReport
from pbcompile.plan import Plan
from pbcompile.tensor_type import TensorType
from pbcompile.verify import VerifyReport


@dataclass(frozen=True)
class CompileResult:
    """A written artifact: where, how large, its hash, what the passes did, what the gate found, seconds by stage."""

    artifact: Path
    bytes: int
    sha256: str
    plan: Plan
    report: CompileReport
    repairs: tuple[str, ...]
    verify: VerifyReport | None
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """The fields of `compile --json` (spec-format.md, section 2), and `repairs`."""
        report = self.report.as_json()
        return {
            "artifact": str(self.artifact),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "inputs": [describe(item.name, item.fed) for item in self.plan.spec.inputs],
            "outputs": [describe(name, given) for name, given in self.plan.output_types.items()],
            "nodes": report["nodes"],
            "batch_norm": report["batch_norm"],
            "repairs": list(self.repairs),
            "verify": None if self.verify is None else self.verify.as_json(),
            "seconds": dict(self.seconds),
        }


def describe(name: str, given: TensorType) -> dict[str, Any]:
    """A tensor as JSON: open sizes are null."""
    return {"name": name, "dtype": given.dtype, "shape": list(given.shape)}
