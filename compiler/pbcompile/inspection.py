"""`inspect`: what a `.pb` says about itself, and what is in it.  Nothing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pbcompile.artifact import CONTRACT, labels_sha256, read_artifact, sha256_of
from pbcompile.errors import ParityError, PbcompileError, Problem
from pbcompile.models.files import content_sha256
from pbcompile.spec.spec import sha256_of_json


def inspect_artifact(path: str | Path, models: Sequence[Path] = ()) -> dict[str, Any]:
    """The fields of `inspect --json`.  For a file without our contract, inputs are its placeholders and outputs are
    the nodes that nothing reads.

    models: files that it must have been made of, see `_require_hashes`.
    """
    path = Path(path)
    graph_def, contract = read_artifact(path)
    data = path.read_bytes()
    ops = Counter(node.op for node in graph_def.node if node.name != CONTRACT)
    inputs, outputs = (contract["inputs"], contract["outputs"]) if contract else _ends(graph_def)
    report = {
        "artifact": str(path),
        "inputs": inputs,
        "outputs": outputs,
        "ops": dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        "nodes": sum(ops.values()),
        "bytes": len(data),
        "sha256": sha256_of(data),
        "contract": contract,
    }
    if models:
        _require_hashes(report, models)
    return report


def _require_hashes(report: Mapping[str, Any], models: Sequence[Path]) -> None:
    """Hold an artifact's contract against itself and against the model that it should be made of.

    models: the model's file or directory, and for an architecture its weights file too, in any order.
    Raises ParityError for another model, and for a spec or labels that were changed behind their hash; PbcompileError
    for a file that is missing and for an artifact that holds no hashes.
    """
    name, contract = report["artifact"], report["contract"] or {}
    if "model_sha256" not in contract:
        raise PbcompileError(Problem("artifact-foreign", f"{name} holds no hash of the model that it was made of"))
    problems = [
        Problem("hash-differs", f"the {what} in {name} is not the one that was compiled: it was changed afterwards")
        for what, is_same in (
            ("spec", contract["spec_sha256"] == sha256_of_json(contract["spec"])),
            ("labels", contract["labels_sha256"] == {k: labels_sha256(v) for k, v in contract["labels"].items()}),
        )
        if not is_same
    ]
    wanted = [contract["model_sha256"], *filter(None, [contract["weights_sha256"]])]
    for path in models:
        if not path.exists():
            raise PbcompileError(Problem("file-missing", f"there is no file {path}"))
        found = content_sha256(path)
        if found not in wanted:
            said = " and ".join(f"{sha256[:16]}…" for sha256 in wanted)
            message = f"{name} was not made of {path}: that has the SHA-256 {found[:16]}…, and the contract says {said}"
            problems.append(Problem("hash-differs", message))
    if problems:
        raise ParityError(*problems)


def _ends(graph_def: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    import tensorflow as tf

    read = {tensor.lstrip("^").partition(":")[0] for node in graph_def.node for tensor in node.input}
    inputs = []
    for node in graph_def.node:
        if node.op == "Placeholder":
            dims = node.attr["shape"].shape
            shape = None if dims.unknown_rank else [None if d.size < 0 else d.size for d in dims.dim]
            inputs.append({"name": node.name, "dtype": tf.as_dtype(node.attr["dtype"].type).name, "shape": shape})
    ends = [node.name for node in graph_def.node if node.name not in read and node.op not in ("Const", "Placeholder")]
    return inputs, [{"name": name, "dtype": None, "shape": None} for name in ends]
