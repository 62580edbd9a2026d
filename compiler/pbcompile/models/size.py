"""What one `.pb` can hold, asked of the file's own tables before anything is loaded."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from pbcompile.errors import ModelError, Problem
from pbcompile.models.files import open_archive, open_h5
from pbcompile.models.loaded import ModelSource

if TYPE_CHECKING:
    import h5py

MAX_BYTES = 2**31 - 1
"""A protocol buffer message holds less than 2 GiB."""


def require_size(source: ModelSource, kind: str) -> None:
    """ModelError where the stored weights are more than one `.pb` holds.  Reads no weights, imports no TensorFlow.

    kind: "h5", "keras" or "json", whose config was read without complaint.  A SavedModel does not say without
    TensorFlow which of its numbers a signature reads: `freeze` asks again.
    """
    path = source.weights if kind == "json" and source.weights else source.path
    if not zipfile.is_zipfile(path):
        with open_h5(source, path) as file:
            size = _bytes_of(file)
    else:
        with open_archive(source, path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".weights.h5")]
            size = sum(info.file_size for info in members)
            if size > MAX_BYTES:  # the state of an optimizer may be most of it
                size = sum(_bytes_in(archive, info) for info in members)
    if size > MAX_BYTES:
        raise too_large(size, source.pointer)


def too_large(size: int, pointer: str = "/model") -> ModelError:
    """The error for weights of `size` bytes."""
    message = f"the weights have {size / 2**30:.1f} GiB, and one .pb holds less than 2 GiB"
    hint = "compile the model in two parts, or a smaller one"
    return ModelError(Problem("model-too-large", message, pointer, hint))


def _bytes_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    import h5py

    with archive.open(member) as stream, h5py.File(stream, "r") as file:
        return _bytes_of(file)


def _bytes_of(file: h5py.File) -> int:
    """Bytes of the arrays in a weights file, without an optimizer's; links to other files are not followed."""
    import h5py

    sizes = []

    def note(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset) and not name.startswith("optimizer"):
            sizes.append(int(found.size or 0) * found.dtype.itemsize)

    file.visititems(note)
    return sum(sizes)
