"""SavedModel directories of any age through their signatures, without Keras."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbcompile.models.augmentation import leave_out_augmentation
from pbcompile.models.files import content_sha256
from pbcompile.models.loaded import LoadedModel, ModelSource, ModelTensor
from pbcompile.models.preprocessing import preprocessing_in_saved_model
from pbcompile.models.repairs import Repairs

if TYPE_CHECKING:
    import tensorflow as tf


def load_saved_model(source: ModelSource) -> LoadedModel:
    """The serving signature of the SavedModel at `source.path`.

    The signature is `serving_default` where there is one, else the only one; ModelError lists them otherwise.
    A SavedModel keeps no order of inputs and outputs, so they come sorted by name.  Augmentation that Keras 3 left
    switched on in it is cut out before it is loaded.
    """
    import tensorflow as tf

    from pbcompile.models.saved_model_v1 import is_version_1, load_version_1

    name = source.path.name
    saved = _message(source)
    if not source.trust_code:
        _refuse_files(source, saved)
    if is_version_1(saved):
        return load_version_1(source, saved)
    repairs = Repairs()
    leave_out_augmentation(saved, repairs)
    try:
        with _directory(source.path, saved if repairs.sentences() else None) as directory:
            loaded = tf.saved_model.load(str(directory))
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, tf.errors.OpError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise source.refuse(f"{name}/ cannot be loaded as a SavedModel: {first}") from error
    signature = _signature(source, loaded)
    inputs = tuple(_tensor(key, spec) for key, spec in sorted(signature.structured_input_signature[1].items()))
    outputs = tuple(_tensor(key, spec) for key, spec in sorted(signature.structured_outputs.items()))

    def call(feeds: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        results = signature(**{tensor.name: feeds[tensor.name] for tensor in inputs})
        return {tensor.name: results[tensor.name] for tensor in outputs}

    preprocessing = preprocessing_in_saved_model(source)
    sha256 = content_sha256(source.path)
    return LoadedModel(inputs, outputs, call, "saved_model", repairs.sentences(), sha256, preprocessing, (), {}, loaded)


@contextmanager
def _directory(path: Path, repaired: Any | None) -> Iterator[Path]:
    """The directory itself, or one of links to its parts with `repaired` in place of its message."""
    if repaired is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="pbcompile-") as made:
        for part in path.iterdir():
            if part.name not in ("saved_model.pb", "fingerprint.pb"):
                (Path(made) / part.name).symlink_to(part.resolve())
        (Path(made) / "saved_model.pb").write_bytes(repaired.SerializeToString())
        yield Path(made)


FILE_OPS = frozenset({
    "ReadFile", "WriteFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2", "TextLineReader",
    "TextLineReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2",
    "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset",
    "FixedLengthRecordDatasetV2", "CreateSummaryFileWriter", "CreateSummaryDbWriter", "DebugIdentity",
    "DebugIdentityV2", "DebugIdentityV3", "FileSystemSetConfiguration", "PyFunc", "EagerPyFunc", "PyFuncStateless",
})  # fmt: skip
"""Ops with which a graph touches files or runs Python; loading a SavedModel may run its initializers.

SaveV2 and RestoreV2 are in every SavedModel, and PrintV2 is in many: it counts where it prints into a file.
"""


def _touches_files(node: Any) -> bool:
    return node.op in FILE_OPS or (node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:"))


def _message(source: ModelSource) -> Any:
    """The SavedModel message in `saved_model.pb`, or in `saved_model.pbtxt` where it is written as text."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    name = "saved_model.pb" if (source.path / "saved_model.pb").is_file() else "saved_model.pbtxt"
    path, saved = source.path / name, saved_model_pb2.SavedModel()
    try:
        if name == "saved_model.pb":
            saved.ParseFromString(path.read_bytes())
        else:
            text_format.Parse(path.read_bytes(), saved)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise source.refuse(f"{source.path.name}/{name} is damaged", "fetch the directory again") from error
    if not saved.meta_graphs:
        raise source.refuse(f"{source.path.name}/{name} holds no graph", "fetch the directory again")
    return saved


def _refuse_files(source: ModelSource, saved: Any) -> None:
    """Raise where the graph, or a function of it, holds an op that a model has no business with."""
    for meta in saved.meta_graphs:
        for nodes in (meta.graph_def.node, *(f.node_def for f in meta.graph_def.library.function)):
            for node in nodes:
                if _touches_files(node):
                    message = f'{source.path.name}/ holds the op {node.op} ("{node.name}"), which is no part of a model'
                    raise source.refuse(message, 'if you trust the directory, "trust_code": true', "model-unsafe")


def _signature(source: ModelSource, loaded: Any) -> Any:
    signatures = getattr(loaded, "signatures", {})
    names = sorted(k for k in signatures if k != "__saved_model_init_op")
    if "serving_default" in names:
        return signatures["serving_default"]
    if len(names) == 1:
        return signatures[names[0]]
    if not names:
        raise source.refuse(f"{source.path.name}/ has no signature to call")
    raise source.refuse(f"{source.path.name}/ has the signatures {', '.join(names)}, and none is serving_default")


def _tensor(name: str, spec: Any) -> ModelTensor:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return ModelTensor(name, spec.dtype.name, shape)
