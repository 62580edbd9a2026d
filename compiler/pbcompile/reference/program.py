"""The unfused program: what a careful user would have written with cv2, PIL and NumPy around the original model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pbcompile.reference import PARTS_REFERENCE, REFERENCE
from pbcompile.reference.camera import decode_camera
from pbcompile.reference.decoding import decode
from pbcompile.reference.places import Seen, orientation_of
from pbcompile.spec import InputSpec
from pbcompile.steps import Step
from pbcompile.steps.base import PartsStep
from pbcompile.steps.camera import CAMERA
from pbcompile.steps.placement import Parts
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    from pbcompile.plan import Plan

Array = npt.NDArray[Any]


def preprocess_reference(item: InputSpec, fed: Any) -> Array:
    """What one input becomes before the model."""
    return stages_reference(item, fed)[-1]


def stages_reference(item: InputSpec, fed: Any) -> list[Array]:
    """One input before the first step and after each one; of a vector, from where its images have one size.

    Encoded images go through one by one.  Raises ValueError for what the real library refuses.
    """
    if item.kind == "encoded":
        contents = list(fed) if item.is_vector else [fed]
        each = [_steps(item, decode(content, item.channels, item.exif, item.like)) for content in contents]
        return [np.concatenate([stages[index] for stages in each]) for index in range(item.first_batched, len(each[0]))]
    x = np.asarray(fed)
    if item.kind == "pixels":
        x = x[None] if item.fed.rank == 3 else x
        x = np.moveaxis(x, 1, -1) if item.fed.layout.endswith("CHW") else x
        x = decode_camera(x, item.channels) if item.channels in CAMERA else x
    return _steps(item, x)


def _steps(item: InputSpec, x: Array) -> list[Array]:
    stages, given = [x], item.entry
    for step, after in zip(item.preprocess, item.types, strict=True):
        stages.append(apply_reference(step, stages[-1], given))
        given = after
    return stages


def apply_reference(step: Step, x: Array, given: TensorType) -> Array:
    """One step by the real library."""
    return REFERENCE[type(step)](step, x, given)


def answers_reference(plan: Plan, given: Mapping[str, Array], feeds: Mapping[str, Any]) -> dict[str, Array]:
    """The public tensors of every output, by name, out of what the model gave for these feeds."""
    inputs = {item.name: item for item in plan.spec.inputs}
    answers: dict[str, Array] = {}
    for output in plan.outputs:
        item = inputs.get(output.image or "")
        seen = seen_images(item, feeds[item.name]) if item else []
        parts = behind_model(output.spec.postprocess, output.types, output.given(given), seen)
        answers |= {f"{output.spec.name}_{part}" if part else output.spec.name: x for part, x in parts.items()}
    return answers


def behind_model(
    steps: Sequence[Step], types: Sequence[Parts], parts: Mapping[str, Array], seen: Sequence[Seen]
) -> dict[str, Array]:
    """The parts behind the last of these postprocess steps; `types` are those before each step."""
    for step, given in zip(steps, types, strict=False):
        if isinstance(step, PartsStep):
            parts = PARTS_REFERENCE[type(step)](step, parts, seen)
        else:
            parts = {"": apply_reference(step, parts[""], given[""])}
    return dict(parts)


def seen_images(item: InputSpec, fed: Any) -> list[Seen]:
    """What was fed to an image input: of several images of one size the first stands for all."""
    if item.kind == "encoded":
        files = list(fed) if item.is_vector else [fed]
        pictures = [decode(content, item.channels, item.exif) for content in files]
        turns = [orientation_of(content) if item.exif == "apply" else 1 for content in files]
    else:
        stages = stages_reference(item, fed)
        pictures, turns = [stages[0][:1]], [1]
    found = []
    for picture, turn in zip(pictures, turns, strict=True):
        sizes: list[tuple[int, int]] = []
        size = picture.shape[1:3]
        for x in _steps(item, picture):
            kind = (item.entry, *item.types)[len(sizes)]
            size = (x.shape[2], x.shape[3]) if kind.layout == "NCHW" else x.shape[1:3] if x.ndim == 4 else size
            sizes.append((int(size[0]), int(size[1])))
        found.append(Seen(item.preprocess, sizes, turn))
    return found
