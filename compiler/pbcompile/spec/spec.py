"""A spec as frozen data: what the JSON says, with every default filled in and every step built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pbcompile.errors import ModelError, Problem
from pbcompile.spec.formula import Formula
from pbcompile.spec.text import JsonText
from pbcompile.steps import Step
from pbcompile.steps.placement import ImageInput
from pbcompile.tensor_type import TensorType


@dataclass(frozen=True)
class ModelSource:
    """Where the model is and what may be done to load it.

    path:           model file or SavedModel directory, absolute or relative to the working directory.
    weights:        weights-only file for a `.json` architecture.
    lambdas:        steps or a formula that stand in for Lambda layers, by layer name.
    custom_objects: "module:attribute" by registered name; only with `trust_code`.
    trust_code:     whether code that the model file names or holds may run.
    allow_nan:      whether weights may be NaN or infinite.
    pointer:        JSON pointer of `model` in the spec.
    """

    path: Path
    weights: Path | None = None
    lambdas: Mapping[str, tuple[Step, ...] | Formula] = field(default_factory=dict)
    custom_objects: Mapping[str, str] = field(default_factory=dict)
    trust_code: bool = False
    allow_nan: bool = False
    pointer: str = "/model"

    def refuse(self, message: str, hint: str = "", code: str = "model-unreadable") -> ModelError:
        """A ModelError at this source."""
        return ModelError(Problem(code, message, self.pointer, hint))


@dataclass(frozen=True)
class InputSpec:
    """One placeholder of the artifact.

    fed:    type of what is fed: the placeholder's dtype and shape.  A string for `encoded`.
    entry:  type that the first step sees: batch axis added, channels last, decoded.
    types:  type after each step; `types[-1]`, or `entry` without steps, is what the model gets.
    """

    name: str
    kind: str
    fed: TensorType
    entry: TensorType
    channels: str
    exif: str
    like: str
    feeds: str | None
    preprocess: tuple[Step, ...]
    types: tuple[TensorType, ...]
    pointer: str

    @property
    def result(self) -> TensorType:
        """The type that reaches the model."""
        return self.types[-1] if self.types else self.entry

    @property
    def first_batched(self) -> int:
        """How many steps a vector of images goes through one by one, until all have one size; 0 for other inputs."""
        if not self.is_vector:
            return 0
        return next(index for index, given in enumerate((self.entry, *self.types)) if None not in given.shape[1:])

    @property
    def batch(self) -> int | None:
        """How many items one feed holds: fixed, or None where any number is fed."""
        return self.entry.shape[0]

    @property
    def as_image(self) -> ImageInput:
        """What the steps behind the model may know of an image input."""
        has_stored = self.kind == "encoded" and self.exif == "apply"
        return ImageInput(self.name, self.entry, self.preprocess, self.types, self.is_vector, has_stored)

    @property
    def is_vector(self) -> bool:
        """Whether several encoded images are fed at once."""
        return self.kind == "encoded" and self.fed.rank == 1


@dataclass(frozen=True)
class Tap:
    """A place in the preprocessing that can be looked at: after step `index` of `input`, -1 before the first one.

    node: the name that the frozen graph gives it.
    """

    input: str
    index: int
    node: str


@dataclass(frozen=True)
class OutputSpec:
    """One output of the artifact: what it is made of, and its steps.

    sources: the model's outputs, by their Keras names; empty is the only one, or the one of the same name.
    image:   the input whose pixels boxes and masks go back to; None is the only image.
    """

    name: str
    sources: tuple[str, ...]
    postprocess: tuple[Step, ...]
    pointer: str
    image: str | None = None

    @property
    def is_joined(self) -> bool:
        """Whether several outputs of the model go into this one."""
        return len(self.sources) > 1

    @property
    def source(self) -> str | None:
        """The model's output, or its outputs for people to read; None is the only one."""
        return ", ".join(self.sources) or None


@dataclass(frozen=True)
class VerifySpec:
    """What the gate compares, and how near is near enough; None means the derived tolerance."""

    images: str | None = None
    count: int = 64
    seed: int = 0
    atol: float | None = None
    rtol: float | None = None
    min_top1_agreement: float = 1.0
    max_level_difference: float = 0.0


@dataclass(frozen=True)
class Spec:
    """A whole spec.  `outputs` is empty where the spec leaves them out: then every model output is one.

    weights: how large weights are stored, "float16" or "int8"; "" is as they are.
    """

    path: Path
    model: ModelSource
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    artifact: Path
    level: str
    weights: str
    verify: VerifySpec
    text: JsonText = field(compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """The folder that the spec's paths are relative to."""
        return self.path.parent

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Every place that can be looked at, in order; the last one of an input is what reaches the model.

        The steps that a vector of images goes through one by one are inside a loop, where no tap reaches.
        """
        return tuple(
            Tap(item.name, index, f"pbcompile/tap/{position}/{index + 1}")
            for position, item in enumerate(self.inputs)
            for index in range(item.first_batched - 1, len(item.preprocess))
        )

    def portable_document(self) -> Any:
        """The document as the artifact's contract holds it: of an absolute path, the file's own name alone.

        An artifact that is handed on does not tell how the folders of the building machine are called.
        """
        return _without_folders(self.text.document)

    def sha256(self) -> str:
        """Hash of the portable document as canonical JSON."""
        return sha256_of_json(self.portable_document())


def sha256_of_json(document: object) -> str:
    """Hash of a JSON value with sorted keys and no spaces, as UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


PATH_KEYS = frozenset({"model", "path", "weights", "artifact", "images", "calibrate", "labels", "mean", "anchors"})
"""Keys of the format whose value, where it is a string, may be a path."""


def _without_folders(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _without_folders(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and key in PATH_KEYS and PurePath(value).is_absolute():
        return PurePath(value).name
    return value
