"""`predict`: run a `.pb` on files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.artifact import read_file
from pbcompile.errors import PbcompileError, Problem
from pbcompile.session import Artifact


def predict_files(path: Path, inputs: Sequence[str]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Results by input, and a problem for each input that could not be read or run; the others go on.

    inputs: paths of images and `.npy` arrays, or `name=path` where the artifact has several inputs.
    """
    artifact = Artifact(path)
    if not artifact.inputs:
        hint = "only a .pb that pbcompile wrote says what it takes"
        raise PbcompileError(Problem("artifact-foreign", f"{path} holds no contract", hint=hint))
    named = dict(text.split("=", 1) for text in inputs if text.partition("=")[0] in artifact.inputs and "=" in text)
    if named or len(artifact.inputs) > 1:
        missing = [name for name in artifact.inputs if name not in named]
        if missing or len(named) != len(inputs):
            hint = "give " + " ".join(f"{name}=FILE" for name in artifact.inputs)
            raise PbcompileError(Problem("call-invalid", f"the artifact has {len(artifact.inputs)} inputs", hint=hint))
        jobs: list[tuple[str, Mapping[str, str]]] = [(" ".join(inputs), named)]
    else:
        jobs = [(text, {artifact.inputs[0]: text}) for text in inputs]
    results: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for name, files in jobs:
        try:
            feeds = {key: read_feed(artifact, key, Path(file)) for key, file in files.items()}
            results.append({"input": name, "outputs": _plain(_run(artifact, name, feeds))})
        except PbcompileError as error:
            problems.extend(error.problems)
    return results, problems


def _run(artifact: Artifact, name: str, feeds: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    import tensorflow as tf

    try:
        return artifact.run(feeds)
    except (tf.errors.OpError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise PbcompileError(Problem("input-refused", f"{name} is not what the artifact takes: {said}")) from None


def read_feed(artifact: Artifact, name: str, path: Path) -> Any:
    """What the input `name` is fed for one file: bytes for encoded, an array else, in the contract's form."""
    wanted = next(item for item in (artifact.contract or {})["inputs"] if item["name"] == name)
    data = read_file(path)
    if wanted["kind"] == "encoded":
        return np.array([data], object) if wanted["shape"] else data
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    if wanted["kind"] == "tensor":
        raise PbcompileError(Problem("input-refused", f'"{name}" takes numbers, and {path} is no .npy array'))
    return _read_pixels(path, data, wanted)


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise PbcompileError(Problem("file-unreadable", f"{path} is no .npy array of numbers: {error}")) from None
    if not isinstance(array, np.ndarray):
        raise PbcompileError(Problem("file-unreadable", f"{path} is an archive, no .npy array"))
    return array


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
