"""The `.pb` file: written whole or not at all, and what it says about itself."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
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


def read_artifact(path: Path | bytes) -> tuple[Any, dict[str, Any] | None]:
    """The GraphDef in a file, or in the bytes of one, and its contract, if it has one.

    Raises PbcompileError for a missing file and for bytes that are no GraphDef.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    data = path if isinstance(path, bytes) else read_file(path)
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


def _no_graph(path: Path | bytes) -> Problem:
    what = path if isinstance(path, Path) else "what was just made"
    return Problem("artifact-unreadable", f"{what} is no TensorFlow graph file", hint="name a .pb that pbcompile wrote")


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


PARTS = ".pbcompile.*.part"
"""Names of files that are not yet what they will be."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all: a reader sees the old file or the new one, never a part.

    The bytes go into a file without a name, which is gone with the process that writes it, however that ends.  When
    it is whole it gets a name beside `path` and, at once, that of `path`; a process killed between the two leaves a
    file that the next write in this folder removes.
    Raises PbcompileError when the folder is missing, read-only or full; the earlier file stays as it was.
    """
    part = path.with_name(PARTS.replace("*", secrets.token_hex(8)))
    try:
        _remove_parts(path.parent)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.fdopen(_open_unnamed(path.parent, part), "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # says to `_remove_parts` that somebody is at work
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                if not part.exists():
                    os.link(f"/proc/self/fd/{file.fileno()}", part.name, dst_dir_fd=folder)
                os.replace(part, path)
        finally:
            os.close(folder)
    except OSError as error:
        raise PbcompileError(Problem("file-unwritable", f"{path} cannot be written: {error.strerror}")) from None
    finally:
        with suppress(OSError):
            part.unlink()


def _open_unnamed(folder: Path, part: Path) -> int:
    """A file in `folder` without a name, or called `part` where the file system has no such files."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    return os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def _remove_parts(folder: Path) -> None:
    """Remove what killed processes left: the lock on such a file ended with its process."""
    for left in folder.glob(PARTS):
        with suppress(OSError), left.open("rb") as file:  # another process may be quicker
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
