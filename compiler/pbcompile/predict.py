"""`predict`: run a `.pb` on files, folders, arrays and stdin, one batch at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pbcompile.artifact import read_file
from pbcompile.errors import PbcompileError, Problem
from pbcompile.samples import IMAGE_SUFFIXES
from pbcompile.session import Artifact

STDIN = "-"
BATCH = 16
MAX_BATCH_BYTES = 64 << 20
"""A batch ends when its images are this large together, so that memory stays bounded whatever is fed."""


@dataclass(frozen=True)
class Answer:
    """What came out for one input, or why nothing did.  `outputs` are arrays by name, with their batch axis."""

    input: str
    outputs: Mapping[str, npt.NDArray[Any]]
    problems: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The entry of `predict --json`."""
        return {"input": self.input, "outputs": _plain(self.outputs)}


class Predictor:
    """An artifact that answers for files."""

    def __init__(self, path: Path, stdin: BinaryIO | None = None) -> None:
        self.artifact = Artifact(path)
        if not self.artifact.inputs or self.artifact.contract is None:
            hint = "only a .pb that pbcompile wrote says what it takes"
            raise PbcompileError(Problem("artifact-foreign", f"{path} holds no contract", hint=hint))
        self.stdin = stdin
        self.wanted = {item["name"]: item for item in self.artifact.contract["inputs"]}

    def jobs(self, words: Sequence[str]) -> list[Mapping[str, str]]:
        """One mapping from inputs to files per run: folders opened, `name=path` taken apart.

        Raises PbcompileError where the inputs do not fit the artifact, and for a folder without images.
        """
        names = self.artifact.inputs
        named = dict(text.split("=", 1) for text in words if text.partition("=")[0] in names and "=" in text)
        if named or len(names) > 1:
            missing = [name for name in names if name not in named]
            if missing or len(named) != len(words):
                hint = "give " + " ".join(f"{name}=FILE" for name in names)
                raise PbcompileError(Problem("call-invalid", f"the artifact has {len(names)} inputs", hint=hint))
            return [named]
        if list(words).count(STDIN) > 1:
            raise PbcompileError(Problem("call-invalid", "stdin can be read once only"))
        return [{names[0]: file} for text in words for file in _files(text)]

    def answers(self, jobs: Sequence[Mapping[str, str]], batch: int = BATCH) -> Iterator[Answer]:
        """An answer per job, in order; an input that cannot be read or run is one with problems, and the rest go on."""
        size = self._batch_size(batch)
        waiting: list[tuple[str, dict[str, Any]]] = []
        for job in jobs:
            name = next(iter(job.values())) if len(job) == 1 else " ".join(f"{k}={v}" for k, v in job.items())
            try:
                feeds = {key: read_feed(self.artifact, key, Path(file), self.stdin) for key, file in job.items()}
            except PbcompileError as error:
                yield from self._run(waiting, size)
                waiting = []
                yield Answer(name, {}, error.problems)
                continue
            if waiting and not _goes_with(waiting, feeds, size):
                yield from self._run(waiting, size)
                waiting = []
            waiting.append((name, feeds))
            if len(waiting) >= size:
                yield from self._run(waiting, size)
                waiting = []
        yield from self._run(waiting, size)

    def _batch_size(self, batch: int) -> int:
        """How many inputs go into one run: what the artifact says, else `batch` where every end has an open batch."""
        ends = [*self.wanted.values(), *(self.artifact.contract or {})["outputs"]]
        first = {tuple(item["shape"][:1]) for item in ends}
        if len(self.wanted) != 1 or len(first) != 1:
            return 1
        (start,) = first
        return 1 if not start else batch if start[0] is None else int(start[0])

    def _run(self, waiting: list[tuple[str, dict[str, Any]]], size: int) -> Iterator[Answer]:
        """Answers for inputs that go together; one by one where the whole batch fails."""
        if not waiting:
            return
        is_whole = len(waiting) == 1 and _count(waiting[0][1]) == size  # such as a .npy of a whole batch
        if len(waiting) == 1 and (is_whole or not self._is_fixed()):
            name, feeds = waiting[0]
            try:
                yield Answer(name, run_artifact(self.artifact, name, feeds))
            except PbcompileError as error:
                yield Answer(name, {}, error.problems)
            return
        (key,) = self.artifact.inputs
        parts = [feeds[key] for _, feeds in waiting]
        count = len(parts)
        if self._is_fixed():
            parts += [parts[-1]] * (size - count)
        try:
            outputs = run_artifact(self.artifact, waiting[0][0], {key: np.concatenate(parts)})
        except PbcompileError as error:
            for item in waiting:
                yield from [Answer(item[0], {}, error.problems)] if self._is_fixed() else self._run([item], size)
            return
        for index, (name, _) in enumerate(waiting):
            yield Answer(name, {key: value[index : index + 1] for key, value in outputs.items()})

    def _is_fixed(self) -> bool:
        shape = next(iter(self.wanted.values()))["shape"]
        return self._batch_size(1) > 1 and bool(shape) and shape[0] is not None


def _files(text: str) -> Iterator[str]:
    """The path itself, or the images and arrays in a folder, sorted."""
    path = Path(text)
    if text == STDIN or not path.is_dir():
        yield text
        return
    suffixes = (*IMAGE_SUFFIXES, ".npy")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        hint = "it looks for " + " ".join(suffixes)
        raise PbcompileError(Problem("images-missing", f"there are no images in the folder {path}", hint=hint))
    yield from map(str, found)


def _goes_with(waiting: Sequence[tuple[str, Mapping[str, Any]]], feeds: Mapping[str, Any], size: int) -> bool:
    """Whether one more input can be in the same batch: arrays of one shape, and not too large together."""
    if size == 1 or len(feeds) != 1:
        return False
    (before,), (here,) = waiting[0][1].values(), feeds.values()
    if not isinstance(here, np.ndarray) or not isinstance(before, np.ndarray):
        return False
    is_one = here.shape[:1] == before.shape[:1] == (1,)
    total = sum(_bytes(value) for _, fed in waiting for value in fed.values()) + _bytes(here)
    return is_one and here.shape == before.shape and total <= MAX_BATCH_BYTES


def _bytes(value: npt.NDArray[Any]) -> int:
    return sum(map(len, value)) if value.dtype == object else value.nbytes


def _count(feeds: Mapping[str, Any]) -> int:
    """How many items are fed; 1 for a scalar."""
    return max(int(np.shape(value)[0]) if np.ndim(value) else 1 for value in feeds.values())


def run_artifact(artifact: Artifact, name: str, feeds: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The outputs of one run.  Raises PbcompileError where the graph refuses what it is fed."""
    import tensorflow as tf

    try:
        return artifact.run(feeds)
    except (tf.errors.OpError, ValueError) as error:
        raise PbcompileError(Problem("input-refused", f"{name} {_refusal(error, feeds)}")) from None


def _refusal(error: Exception, feeds: Mapping[str, Any]) -> str:
    """What TensorFlow says without its headings, behind what that means for a person."""
    headings = ("Graph execution error", "Detected at node", "Node:")
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in lines if line and not line.startswith(headings)), type(error).__name__)
    is_encoded = any(np.asarray(value).dtype.kind in "OS" for value in feeds.values())
    wanted = "is no image that the artifact can decode" if is_encoded else "is not what the artifact takes"
    return f"{wanted}: {said}"


def read_feed(artifact: Artifact, name: str, path: Path, stdin: BinaryIO | None = None) -> Any:
    """What the input `name` is fed for one file: bytes for encoded, an array else, in the contract's form.

    The path `-` is `stdin`: the bytes of an image, or of a `.npy`.
    """
    wanted = next(item for item in (artifact.contract or {})["inputs"] if item["name"] == name)
    data = stdin.read() if str(path) == STDIN and stdin is not None else read_file(path)
    if not data:
        raise PbcompileError(Problem("file-unreadable", f"{path} is empty"))
    is_array = data.startswith(b"\x93NUMPY")
    if wanted["kind"] == "encoded":
        if is_array:
            message = f'"{name}" takes the bytes of an image file, and {path} is a .npy array'
            raise PbcompileError(Problem("input-refused", message))
        return np.array([data], object) if wanted["shape"] else data
    if is_array or path.suffix.lower() == ".npy":
        return _read_array(path, data, wanted)
    if wanted["kind"] == "tensor":
        raise PbcompileError(Problem("input-refused", f'"{name}" takes numbers, and {path} is no .npy array'))
    return _read_pixels(path, data, wanted)


def _read_array(path: Path, data: bytes, wanted: Mapping[str, Any]) -> npt.NDArray[Any]:
    """A `.npy` in the dtype of the placeholder; one item without its batch axis is given it."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise PbcompileError(Problem("file-unreadable", f"{path} is no .npy array of numbers: {error}")) from None
    if not isinstance(array, np.ndarray):
        raise PbcompileError(Problem("file-unreadable", f"{path} is an archive, no .npy array"))
    shape = wanted["shape"]
    array = array[None] if array.ndim == len(shape) - 1 else array
    fits = array.ndim == len(shape) and all(w in (None, h) for w, h in zip(shape, array.shape, strict=True))
    said = f"{wanted['dtype']} [{', '.join('?' if d is None else str(d) for d in shape)}]"
    if not fits or not np.can_cast(array.dtype, wanted["dtype"], "same_kind"):
        message = f'"{wanted["name"]}" takes {said}, and {path} holds {array.dtype} {list(array.shape)}'
        raise PbcompileError(Problem("input-refused", message))
    return array.astype(wanted["dtype"], copy=False)


def _read_pixels(path: Path, data: bytes, wanted: Mapping[str, Any]) -> npt.NDArray[Any]:
    """An image file as the array the placeholder takes, decoded by OpenCV as `cv2.imread` does."""
    import cv2

    channels = wanted.get("channels", "RGB")
    mode = cv2.IMREAD_GRAYSCALE if channels == "GRAY" else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if data else None
    if image is None:
        raise PbcompileError(Problem("image-unreadable", f"{path} is no image that OpenCV reads"))
    if channels == "GRAY":
        image = image[..., None]
    elif channels == "RGB":
        image = image[..., ::-1]
    elif channels in ("RGBA", "BGRA"):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA if channels == "RGBA" else cv2.COLOR_BGR2BGRA)
    elif channels != "BGR":
        message = f"{path} is an image file, and the artifact takes {channels} frames"
        raise PbcompileError(Problem("input-refused", message, hint="feed a .npy array"))
    array = np.ascontiguousarray(image).astype(wanted["dtype"])
    if wanted.get("layout", "").endswith("CHW"):
        array = np.moveaxis(array, -1, 0)
    return array[None] if len(wanted["shape"]) == 4 else array


def _plain(outputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Arrays as lists, bytes as text: what JSON holds.  Numbers that JSON has no word for become null."""

    def value(item: Any) -> Any:
        if isinstance(item, list):
            return [value(part) for part in item]
        if isinstance(item, bytes):
            return item.decode("utf-8", "replace")
        return None if isinstance(item, float) and not np.isfinite(item) else item

    return {name: value(np.asarray(array).tolist()) for name, array in outputs.items()}
