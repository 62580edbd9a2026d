"""What a compile did to the graph, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pbcompile.graph import Declined


@dataclass(frozen=True)
class PassReport:
    """One pass: how often it fired, and where it fitted but had to decline."""

    name: str
    applied: int
    declined: tuple[Declined, ...]


@dataclass(frozen=True)
class FoldedBatchNorm:
    """A batch norm that costs nothing any more, and the nodes whose weights and biases hold it."""

    layer: str
    into: tuple[str, ...]


@dataclass(frozen=True)
class KeptBatchNorm:
    """A batch norm that is still computed, with the reason."""

    layer: str
    reason: str


@dataclass(frozen=True)
class BatchNormReport:
    """Every batch norm of the frozen graph: `found` = `len(folded)` + `len(kept)`."""

    folded: tuple[FoldedBatchNorm, ...]
    kept: tuple[KeptBatchNorm, ...]

    @property
    def found(self) -> int:
        """How many there were."""
        return len(self.folded) + len(self.kept)

    def as_json(self) -> dict[str, Any]:
        """The fields of spec-format section 2: `found`, `folded`, `kept` with layer and reason."""
        return {"found": self.found, "folded": len(self.folded), "kept": [asdict(kept) for kept in self.kept]}


@dataclass(frozen=True)
class CompileReport:
    """What `optimize` did.  `ops_before`: how many nodes of each op there were."""

    level: str
    nodes_before: int
    ops_before: Mapping[str, int]
    nodes_after: int
    passes: tuple[PassReport, ...]
    batch_norm: BatchNormReport

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; `nodes` and `batch_norm` are those of `compile --json`."""
        return {
            "level": self.level,
            "nodes": {"before": self.nodes_before, "after": self.nodes_after},
            "batch_norm": self.batch_norm.as_json(),
            "folded_into": {folded.layer: list(folded.into) for folded in self.batch_norm.folded},
            "passes": [
                {"name": done.name, "applied": done.applied, "declined": [asdict(no) for no in done.declined]}
                for done in self.passes
            ],
        }
