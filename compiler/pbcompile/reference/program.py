"""The unfused program: what a careful user would have written with cv2, PIL and NumPy around the original model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.reference import REFERENCE
from pbcompile.reference.camera import decode_camera
from pbcompile.reference.decoding import decode
from pbcompile.reference.values import top_k
from pbcompile.spec import InputSpec, OutputSpec
from pbcompile.steps import Step
from pbcompile.steps.camera import CAMERA
from pbcompile.steps.postprocess import TopK
from pbcompile.tensor_type import TensorType

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


def postprocess_reference(output: OutputSpec, types: tuple[TensorType, ...], x: Array) -> dict[str, Array]:
    """The public tensors of one output by name."""
    for step, given in zip(output.postprocess, types, strict=False):
        if isinstance(step, TopK):
            return {f"{output.name}_{part}": value for part, value in top_k(step, x).items()}
        x = apply_reference(step, x, given)
    return {output.name: x}
