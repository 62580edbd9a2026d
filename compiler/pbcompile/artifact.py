"""The `.pb` file: written whole or not at all, and what it says about itself."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbcompile.errors import PbcompileError, Problem
from pbcompile.steps.detection import NonMaxSuppression
from pbcompile.steps.postprocess import TopK
from pbcompile.version import __version__

if TYPE_CHECKING:
    from pbcompile.models import LoadedModel
    from pbcompile.passes import CompileReport
    from pbcompile.plan import Plan

CONTRACT = "pbcompile/contract"
"""Name of the string constant that holds the contract."""


def add_contract(graph_def: Any, contract: Mapping[str, Any]) -> None:
    """Append the contract as a scalar string constant: sorted JSON, so that the same facts are the same bytes."""
    text = json.dumps(contract, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    node = graph_def.node.add(name=CONTRACT, op="Const")
    node.attr["dtype"].type = 7  # DT_STRING
    node.attr["value"].tensor.dtype = 7
    node.attr["value"].tensor.tensor_shape.SetInParent()
    node.attr["value"].tensor.string_val.append(text)


def make_contract(plan: Plan, model: LoadedModel, report: CompileReport, tolerance: float) -> dict[str, Any]:
    """What the artifact says about itself: nothing of the machine or the moment it was made on."""
    import tensorflow as tf

    spec = plan.spec
    labels = {
        output.spec.name: list(step.label_names)
        for output in plan.outputs
        for step in output.spec.postprocess
        if isinstance(step, (NonMaxSuppression, TopK)) and step.label_names
    }
    return {
        "format": 1,
        "pbcompile": __version__,
        "tensorflow": tf.__version__,
        "spec": spec.portable_document(),
        "spec_sha256": spec.sha256(),
        "model_sha256": model.sha256,
        "weights_sha256": model.weights_sha256,
        "inputs": [
            {"name": item.name, "dtype": item.fed.dtype, "shape": list(item.fed.shape), "kind": item.kind}
            | ({"channels": item.channels} if item.channels else {})
            | ({"layout": item.fed.layout} if item.fed.layout else {})
            for item in spec.inputs
        ],
        "outputs": [
            {"name": name, "dtype": given.dtype, "shape": list(given.shape), "from": output.source}
            for output in plan.outputs
            for name, given in output.emitted.items()
        ],
        "labels": labels,
        "labels_sha256": {name: labels_sha256(names) for name, names in labels.items()},
        "tolerances": {"relative": tolerance},
        "batch_norm": report.as_json()["batch_norm"],
    }


def labels_sha256(names: Sequence[str]) -> str:
    """Hash of one label a line: what `sha256sum` says of such a file."""
    return sha256_of("".join(f"{name}\n" for name in names).encode())


def read_artifact(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """The GraphDef in a file and its contract, if it has one.

    Raises PbcompileError for a missing file and for bytes that are no GraphDef.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    data = read_file(path)
    graph_def = graph_pb2.GraphDef()
    try:
        graph_def.ParseFromString(data)
    except DecodeError:
        raise PbcompileError(_no_graph(path)) from None
    if not graph_def.node or not all(node.op for node in graph_def.node):
        raise PbcompileError(_no_graph(path))
    return graph_def, _contract_of(graph_def)


def read_file(path: Path) -> bytes:
    """The bytes of a file that the user named.  Raises PbcompileError when there is none or it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PbcompileError(Problem("file-missing", f"there is no file {path}")) from None
    except OSError as error:
        raise PbcompileError(Problem("file-unreadable", f"{path} cannot be read: {error.strerror}")) from None


def _no_graph(path: Path) -> Problem:
    return Problem("artifact-unreadable", f"{path} is no TensorFlow graph file", hint="name a .pb that pbcompile wrote")


def _contract_of(graph_def: Any) -> dict[str, Any] | None:
    for node in graph_def.node:
        if node.name == CONTRACT and node.op == "Const":
            values = node.attr["value"].tensor.string_val
            try:
                contract = json.loads(values[0]) if values else None
            except ValueError:
                return None
            return contract if isinstance(contract, dict) else None
    return None


def sha256_of(data: bytes) -> str:
    """Hash of an artifact's bytes."""
    return hashlib.sha256(data).hexdigest()


def require_folder(path: Path) -> None:
    """PbcompileError when the folder of `path` is not there or not writable: better told before the work than after."""
    if path.is_dir():
        raise PbcompileError(Problem("file-unwritable", f"{path} is a folder", hint="name a file, such as model.pb"))
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        word = "is not writable" if path.parent.is_dir() else "does not exist"
        raise PbcompileError(Problem("file-unwritable", f"{path} cannot be written: the folder {path.parent} {word}"))


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file beside `path`, then rename: a reader sees the old file or the new one, never a part.

    Raises PbcompileError when the folder is missing, read-only or full; the earlier file stays as it was.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise PbcompileError(Problem("file-unwritable", f"{path} cannot be written: {error.strerror}")) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
