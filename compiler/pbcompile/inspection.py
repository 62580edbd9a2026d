"""`inspect`: what a `.pb` says about itself, and what is in it.  Nothing runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pbcompile.artifact import CONTRACT, read_artifact, sha256_of


def inspect_artifact(path: str | Path) -> dict[str, Any]:
    """The fields of `inspect --json`.  For a file without our contract, inputs are its placeholders and outputs are
    the nodes that nothing reads."""
    path = Path(path)
    graph_def, contract = read_artifact(path)
    data = path.read_bytes()
    ops = Counter(node.op for node in graph_def.node if node.name != CONTRACT)
    inputs, outputs = (contract["inputs"], contract["outputs"]) if contract else _ends(graph_def)
    return {
        "artifact": str(path),
        "inputs": inputs,
        "outputs": outputs,
        "ops": dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        "nodes": sum(ops.values()),
        "bytes": len(data),
        "sha256": sha256_of(data),
        "contract": contract,
    }


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
