"""The steps on values in NumPy's float32, and `preprocess_input` by Keras itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.steps import normalisation as norm
from pbcompile.steps import postprocess as post
from pbcompile.steps import values as step_types
from pbcompile.steps.base import Step
from pbcompile.tensor_type import TensorType

Array = npt.NDArray[Any]
Reference = Callable[[Any, Array, TensorType], Array]


def _per_channel(value: Any, given: TensorType) -> Any:
    """A number, or one per channel, broadcast along C as a user writes it for NHWC or NCHW."""
    numbers = np.atleast_1d(np.asarray(value, np.float32))
    if len(numbers) == 1:
        return numbers[0]
    return numbers[:, None, None] if given.layout == "NCHW" else numbers


def cast(step: step_types.Cast, x: Array, given: TensorType) -> Array:
    """Saturating cast: limit in float64 or integers, then truncate."""
    target = np.dtype(step.dtype)
    if target.kind == "f" or x.dtype == target:
        return x.astype(target)
    info = np.iinfo(target)
    if x.dtype.kind in "iu":
        return np.array([min(max(int(v), int(info.min)), int(info.max)) for v in x.ravel()], target).reshape(x.shape)
    whole = np.trunc(x.astype(np.float64))
    inside = np.clip(whole, float(info.min), float(info.max))
    result = np.where(whole >= float(info.max), 0, inside).astype(target)
    result[whole >= float(info.max)] = info.max  # float64 cannot hold 2**63 - 1
    return result


def rescale(step: norm.Rescale, x: Array, given: TensorType) -> Array:
    """x · scale + offset."""
    return np.asarray(x.astype(np.float32) * _per_channel(step.scale, given) + _per_channel(step.offset, given))


def subtract_mean(step: norm.SubtractMean, x: Array, given: TensorType) -> Array:
    """x − mean."""
    mean = step.image if step.image is not None else _per_channel(step.mean, given)
    return x.astype(np.float32) - mean


def normalize(step: norm.Normalize, x: Array, given: TensorType) -> Array:
    """(x − mean) / std."""
    return np.asarray((x.astype(np.float32) - _per_channel(step.mean, given)) / _per_channel(step.std, given))


def standardize(step: norm.Standardize, x: Array, given: TensorType) -> Array:
    """(x − mean) / max(stddev, 1/sqrt(n)), each image on its own."""
    images = []
    for image in x.astype(np.float32):
        deviation = max(image.std(dtype=np.float64), 1.0 / np.sqrt(image.size))
        images.append(((image - image.mean(dtype=np.float64)) / deviation).astype(np.float32))
    return np.stack(images)


def clip(step: step_types.Clip, x: Array, given: TensorType) -> Array:
    """numpy.clip in the dtype of x."""
    low = None if step.min is None else x.dtype.type(step.min)
    high = None if step.max is None else x.dtype.type(step.max)
    return np.clip(x, low, high)


def round_(step: step_types.Round, x: Array, given: TensorType) -> Array:
    """numpy.rint; integers unchanged."""
    return np.rint(x) if x.dtype.kind == "f" else x


def transpose(step: step_types.Transpose, x: Array, given: TensorType) -> Array:
    """numpy.transpose."""
    if step.perm is not None:
        return np.transpose(x, step.perm)
    if given.layout == step.layout:
        return x
    return np.moveaxis(x, -1, 1) if step.layout == "NCHW" else np.moveaxis(x, 1, -1)


def reshape(step: step_types.Reshape, x: Array, given: TensorType) -> Array:
    """numpy.reshape of every item."""
    return x.reshape(x.shape[0], *step.shape)


def keras_applications(step: norm.KerasApplications, x: Array, given: TensorType) -> Array:
    """Keras's own function."""
    from keras.src.applications.imagenet_utils import preprocess_input

    layout = "channels_first" if given.layout == "NCHW" else "channels_last"
    return np.asarray(preprocess_input(x.astype(np.float32), data_format=layout, mode=step.mode))


def softmax(step: post.Softmax, x: Array, given: TensorType) -> Array:
    """exp(x − max) / sum, in float64 and rounded once."""
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), x.dtype)


def sigmoid(step: post.Sigmoid, x: Array, given: TensorType) -> Array:
    """1 / (1 + exp(−x)), in float64 and rounded once."""
    e = np.exp(-np.abs(x.astype(np.float64)))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def argmax(step: post.Argmax, x: Array, given: TensorType) -> Array:
    """numpy.argmax."""
    return np.asarray(np.argmax(x, axis=step.axis), np.int64)


def threshold(step: post.Threshold, x: Array, given: TensorType) -> Array:
    """x > value."""
    return np.asarray(x > x.dtype.type(step.value), np.uint8)


def top_k(step: post.TopK, given: Mapping[str, Array], seen: object = None) -> dict[str, Array]:
    """The parts of a `top_k`: stable sort from the largest down."""
    x = given[""]
    order = np.argsort(-x.astype(np.float64), axis=-1, kind="stable")[:, : step.k].astype(np.int32)
    parts: dict[str, Array] = {"scores": np.take_along_axis(x, order, -1), "indices": order}
    if step.label_names:
        parts["labels"] = np.array([name.encode() for name in step.label_names], object)[order]
    return {part: parts[part] for part in step.parts}


REFERENCE: dict[type[Step], Reference] = {
    step_types.Cast: cast,
    norm.Rescale: rescale,
    norm.SubtractMean: subtract_mean,
    norm.Normalize: normalize,
    norm.Standardize: standardize,
    step_types.Clip: clip,
    step_types.Round: round_,
    step_types.Transpose: transpose,
    step_types.Reshape: reshape,
    norm.KerasApplications: keras_applications,
    post.Softmax: softmax,
    post.Sigmoid: sigmoid,
    post.Argmax: argmax,
    post.Threshold: threshold,
}
