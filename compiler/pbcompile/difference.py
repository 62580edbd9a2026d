"""`diff`: what changed from one `.pb` to another.  Nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pbcompile.artifact import CONTRACT, read_artifact
from pbcompile.graph.registry import tensor_value
from pbcompile.inspection import inspect_artifact


def diff_artifacts(first: str | Path, second: str | Path) -> dict[str, Any]:
    """The differences as data; `same` is whether the files hold the same bytes.

    inputs, outputs, contract: [before, after] for each entry that differs, by name.
    ops:     [count before, count after] for each op whose count differs.
    weights: for each constant of one name and shape whose values differ: how many, the largest absolute change, and
             the change relative to the constant's norm; and the names that only one file has.
    Raises PbcompileError for what is no graph file.
    """
    before, after = inspect_artifact(first), inspect_artifact(second)
    contracts = [_flat(report["contract"] or {}) for report in (before, after)]
    return {
        "same": before["sha256"] == after["sha256"],
        "bytes": [before["bytes"], after["bytes"]],
        "inputs": _changed(*({item["name"]: item for item in report["inputs"]} for report in (before, after))),
        "outputs": _changed(*({item["name"]: item for item in report["outputs"]} for report in (before, after))),
        "ops": _changed(before["ops"], after["ops"]),
        "contract": _changed(*contracts),
        "weights": _weights(first, second),
    }


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[Any]]:
    names = [*before, *(name for name in after if name not in before)]
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by JSON pointer."""
    if isinstance(value, dict):
        return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{path}/{name}").items()}
    if isinstance(value, list):
        return {key: leaf for index, inner in enumerate(value) for key, leaf in _flat(inner, f"{path}/{index}").items()}
    return {path: value}


def _weights(first: str | Path, second: str | Path) -> dict[str, Any]:
    before, after = (
        {
            n.name: n.attr["value"].tensor
            for n in read_artifact(Path(path))[0].node
            if n.op == "Const" and n.name != CONTRACT
        }
        for path in (first, second)
    )
    changed = []
    for name in (name for name in before if name in after):
        if before[name] == after[name]:
            continue
        a, b = tensor_value(before[name]), tensor_value(after[name])
        entry: dict[str, Any] = {"name": name, "shape": [list(a.shape), list(b.shape)]}
        if a.shape == b.shape and a.dtype.kind in "fiu" and b.dtype.kind in "fiu":
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
            norm = float(np.linalg.norm(a.astype(np.float64).ravel()))
            entry |= {
                "differing": int(np.count_nonzero(apart)),
                "of": int(a.size),
                "max_abs": float(apart.max(initial=0.0)),
                "relative": float(np.linalg.norm(apart.ravel())) / norm if norm else None,
            }
        changed.append(entry)
    return {
        "changed": changed,
        "removed": [name for name in before if name not in after],
        "added": [name for name in after if name not in before],
    }
