"""Model files told apart by their first bytes, and opened only after they are known to be harmless."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pbcompile.errors import ModelError, Problem, SpecError
from pbcompile.models.loaded import ModelSource
from pbcompile.models.probe import fault_of_h5

if TYPE_CHECKING:
    import h5py

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
MAX_CONFIG_BYTES = 64 << 20
MAX_ARCHIVE_BYTES = 16 << 30
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, KeyError, ValueError)
"""What `zipfile` and `h5py` raise over damaged bytes."""
MAX_DEPTH = 64
"""Nesting of JSON objects in a config; real ones stay under 30."""


@dataclass(frozen=True)
class Architecture:
    """A model's config as data, and where it came from.

    config:        the object with `class_name` and `config`.
    keras_version: as the file says, "" where it does not.
    backend:       "tensorflow", "theano", "cntk", …, "" where the file does not say.
    container:     "h5", "keras" or "json".
    """

    config: dict[str, Any]
    keras_version: str
    backend: str
    container: str


def kind_of(source: ModelSource) -> str:
    """ "h5", "keras", "json" or "saved_model", by content; raises SpecError or ModelError for anything else."""
    path = source.path
    require_name(source, path)
    if path.is_dir():
        return _kind_of_directory(source)
    _require_file(source, path)
    head = _head(path)
    if head.startswith(HDF5_MAGIC) or _hdf5_with_user_block(path):
        return "h5"
    if head.startswith(ZIP_MAGIC):
        return "keras"
    refuse_known_wrong(source, path, head)
    if head.lstrip()[:1] == b"{":
        return "json"
    raise source.refuse(
        f"{path.name} is not a model file: it starts with {_shown(head)}",
        "give a Keras .h5 or .keras file, an architecture .json with weights, or a SavedModel directory",
    )


def refuse_known_wrong(source: ModelSource, path: Path, head: bytes) -> None:
    """Raise for things that people have instead of a model, each with what to do."""
    if not head:
        raise source.refuse(f"{path.name} is empty", "the download or the copy was cut off: fetch the file again")
    if head.startswith(b"version https://git-lfs"):
        raise source.refuse(
            f"{path.name} is a git-lfs pointer, not the model itself", 'run "git lfs pull" where the file comes from'
        )
    start = head.lstrip()[:400].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")) or b"<html" in start:
        raise source.refuse(
            f"{path.name} is a web page, not a model: the download saved the page around the file",
            'use the "raw" or "download" link of that page',
        )
    if head[4:8] == b"TFL3":
        raise source.refuse(
            f"{path.name} is a TensorFlow Lite model, which has lost its Keras layers",
            "give the Keras or SavedModel file that it was converted from",
        )
    if head[:2] == b"\x1f\x8b":
        raise source.refuse(f"{path.name} is a gzip archive", "unpack it, and give the model inside")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise source.refuse(
            f"{path.name} is a Python pickle; loading one runs code, so pbcompile never does",
            "save the model with model.save() and give that file",
        )
    if path.suffix == ".pb" or _looks_like_graph_def(head):
        if path.name == "saved_model.pb":
            raise source.refuse(
                f"{path.name} is one part of a SavedModel", f"give the directory around it, {path.parent.name}/"
            )
        raise source.refuse(
            f"{path.name} is a frozen graph, which is what pbcompile writes, not what it reads",
            "give the Keras or SavedModel file that it was made from",
        )
    if path.suffix == ".onnx":
        raise source.refuse(f"{path.name} is an ONNX model", "give the Keras or SavedModel file")


@contextmanager
def open_h5(source: ModelSource, path: Path) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, opened for reading; ModelError where it turns out to be cut off or damaged."""
    import h5py

    fault = fault_of_h5(path)
    if fault:
        raise source.refuse(f"{path.name} is a damaged HDF5 file: {fault}", "fetch or save the file again")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise damaged(source, path, "HDF5 file", error) from error


@contextmanager
def open_archive(source: ModelSource, path: Path) -> Iterator[zipfile.ZipFile]:
    """The `.keras` archive at `path`, its members known to stay inside; ModelError where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            safe_members(source, archive)
            yield archive
    except ARCHIVE_ERRORS as error:
        raise damaged(source, path, "archive", error) from error


def damaged(source: ModelSource, path: Path, what: str, error: BaseException) -> ModelError:
    """A ModelError saying that a file is damaged, with the first words of the library that found it."""
    return source.refuse(f"{path.name} is a damaged {what}: {_first_line(error)[:160]}", "fetch or save the file again")


def read_architecture(source: ModelSource, kind: str) -> Architecture:
    """The config in the model file, checked for depth and size but not yet understood."""
    if kind == "h5":
        return _from_h5(source)
    if kind == "keras":
        return _from_keras(source)
    return _from_json(source)


def safe_members(source: ModelSource, archive: zipfile.ZipFile) -> None:
    """Raise unless every member of `archive` stays inside it and the whole has a believable size."""
    total = 0
    for info in archive.infolist():
        name = PurePosixPath(info.filename.replace("\\", "/"))
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if name.is_absolute() or ".." in name.parts or (name.parts and ":" in name.parts[0]) or is_link:
            raise source.refuse(f"{source.path.name} has the member {info.filename!r}, which points outside of it")
        total += info.file_size
    if total > MAX_ARCHIVE_BYTES:
        raise source.refuse(f"{source.path.name} unpacks to {total} bytes, more than the {MAX_ARCHIVE_BYTES} allowed")


def content_sha256(root: Path) -> str:
    """SHA-256 over the contents of a file, or of a directory's files with their names in it, in sorted order."""
    digest = hashlib.sha256()
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    for path in files:
        if root.is_dir():
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def parse_json(source: ModelSource, text: str | bytes, what: str) -> dict[str, Any]:
    """`text` as a JSON object of bounded size and depth."""
    if len(text) > MAX_CONFIG_BYTES:
        raise source.refuse(f"{what} is {len(text)} bytes long, which no model config is")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise source.refuse(f"{what} is nested too deeply to be a model") from error
    except ValueError as error:
        raise source.refuse(f"{what} is not JSON: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise source.refuse(f"{what} is not a JSON object")
    if _depth(value) > MAX_DEPTH * 4:
        raise source.refuse(f"{what} is nested too deeply to be a model")
    return value


def text_attribute(holder: h5py.Group, name: str) -> str:
    """A string attribute of an HDF5 object, "" where it is missing."""
    value = holder.attrs.get(name)
    if value is None:
        return ""
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _from_h5(source: ModelSource) -> Architecture:
    with open_h5(source, source.path) as file:
        text = text_attribute(file, "model_config")
        if not text:
            raise source.refuse(_without_architecture(source.path, file), _weights_hint(file))
        config = parse_json(source, text, f"the model_config of {source.path.name}")
        return Architecture(config, text_attribute(file, "keras_version"), text_attribute(file, "backend"), "h5")


def _without_architecture(path: Path, file: h5py.File) -> str:
    if "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file:
        return f"{path.name} holds weights but no architecture"
    return f"{path.name} is an HDF5 file, but not a Keras model"


def _weights_hint(file: h5py.File) -> str:
    if "layer_names" in file.attrs or "layers" in file:
        return 'give the architecture too: "model": {"path": "model.json", "weights": "weights.h5"}'
    return f"it holds: {', '.join(sorted(file)[:8])}"


def _from_keras(source: ModelSource) -> Architecture:
    name = source.path.name
    with open_archive(source, source.path) as archive:
        members = set(archive.namelist())
        if "config.json" not in members:
            is_saved_model = any(m.endswith("saved_model.pb") for m in members)
            hint = "unpack it and give the SavedModel directory inside" if is_saved_model else ""
            raise source.refuse(f"{name} is a zip archive without config.json, so not a .keras file", hint)
        if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise source.refuse(f"the config.json of {name} is too long to be a model's")
        config = parse_json(source, archive.read("config.json"), f"the config.json of {name}")
        version = ""
        if "metadata.json" in members and archive.getinfo("metadata.json").file_size < MAX_CONFIG_BYTES:
            metadata = parse_json(source, archive.read("metadata.json"), f"the metadata.json of {name}")
            version = str(metadata.get("keras_version", ""))
        return Architecture(config, version, "", "keras")


def _from_json(source: ModelSource) -> Architecture:
    name = source.path.name
    value = parse_json(source, source.path.read_bytes(), name)
    if "modelTopology" in value:
        value = value["modelTopology"]
        value = value.get("model_config", value) if isinstance(value, dict) else {}
    if not isinstance(value, dict) or "class_name" not in value or "config" not in value:
        raise source.refuse(
            f"{name} is JSON, but not a Keras architecture: it has no class_name and config",
            "write one with model.to_json()",
        )
    if source.weights is None:
        raise source.refuse(
            f"{name} is an architecture without weights",
            f'give both: "model": {{"path": "{name}", "weights": "weights.h5"}}',
        )
    _require_file(source, source.weights)
    return Architecture(value, str(value.get("keras_version", "")), str(value.get("backend", "")), "json")


def _kind_of_directory(source: ModelSource) -> str:
    path = source.path
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return "saved_model"
    inner = sorted(p.parent.name for p in path.glob("*/saved_model.pb"))
    if inner:
        raise source.refuse(f"{path.name}/ has no saved_model.pb of its own", f"give {path.name}/{inner[-1]} instead")
    hint = "a SavedModel directory holds saved_model.pb and variables/"
    if any(path.glob("*.index")) or (path / "variables").is_dir():
        hint = "these are checkpoint weights without a graph: save the model itself with model.save()"
    raise source.refuse(f"{path.name}/ is a directory without saved_model.pb, so not a SavedModel", hint)


def require_name(source: ModelSource, path: Path) -> None:
    """Raise for a path that no file can have: too long, or with a zero byte in it."""
    try:
        path.stat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(Problem("file-missing", f"{str(path)[:80]!r} is no file: {reason}", source.pointer)) from None


def _require_file(source: ModelSource, path: Path) -> None:
    require_name(source, path)
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix in {".h5", ".hdf5", ".keras", ".json"})
        hint = f"in that folder: {', '.join(near[:6])}" if path.parent.is_dir() and near else ""
        raise SpecError(Problem("file-missing", f"there is no file {path}", source.pointer, hint))
    if not path.is_file():
        raise SpecError(Problem("file-missing", f"{path} is not a file", source.pointer))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2048)


def _hdf5_with_user_block(path: Path) -> bool:
    """HDF5 allows a user block of 512, 1024, 2048, … bytes in front."""
    with path.open("rb") as file:
        for offset in (512, 1024, 2048):
            file.seek(offset)
            if file.read(8) == HDF5_MAGIC:
                return True
    return False


def _looks_like_graph_def(head: bytes) -> bool:
    """Field 1 (node) with a length, then field 1 (name) of a NodeDef: how every GraphDef starts."""
    return (
        head[:1] == b"\x0a"
        and b"\x12" in head[2:80]
        and any(op in head for op in (b"Placeholder", b"Const", b"Identity"))
    )


def _shown(head: bytes) -> str:
    return repr(head[:24].decode("latin-1"))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below
    return depth
