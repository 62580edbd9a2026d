"""One traced function: what is fed, the spec's steps, the model, and the steps behind it."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from pbcompile.models import LoadedModel, ModelTensor
from pbcompile.plan import Plan, PlannedOutput
from pbcompile.spec import InputSpec, Spec
from pbcompile.steps.camera import CAMERA, decode_camera
from pbcompile.steps.decoding import decode
from pbcompile.steps.postprocess import TopK
from pbcompile.tensor_type import TensorType


def graft(plan: Plan, model: LoadedModel) -> Any:
    """Trace the whole program.

    Returns a concrete function whose arguments are the spec's inputs in order, and whose result is a list: the public
    outputs in the plan's order, then the plan's taps.  Nodes are named after the spec: `image/02_normalize/…`,
    `model/…`, `top5/00_top_k/…`.
    """

    @tf.function(input_signature=_signature(plan.spec), autograph=False)  # type: ignore[untyped-decorator]
    def fused(*fed: tf.Tensor) -> list[tf.Tensor]:
        ready, taps = {}, []
        for item, x in zip(plan.spec.inputs, fed, strict=True):
            stages = preprocess(x, item)
            taps += stages
            ready[item.name] = _as_model_takes(stages[-1], item, plan.targets[item.name])
        with tf.name_scope("model/"):
            given = model.call({name: ready[item.name] for name, item in plan.feeds.items()})
        return [tensor for output in plan.outputs for tensor in postprocess(given[output.source], output)] + taps

    return fused.get_concrete_function()


def graft_preprocessing(spec: Spec) -> Any:
    """The steps alone: a concrete function from the spec's inputs to its taps."""

    @tf.function(input_signature=_signature(spec), autograph=False)  # type: ignore[untyped-decorator]
    def prepared(*fed: tf.Tensor) -> list[tf.Tensor]:
        return [stage for item, x in zip(spec.inputs, fed, strict=True) for stage in preprocess(x, item)]

    return prepared.get_concrete_function()


def _signature(spec: Spec) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(item.fed.shape, item.fed.dtype, name=_argument(item.name)) for item in spec.inputs]


def _argument(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _as_model_takes(x: tf.Tensor, item: InputSpec, wanted: ModelTensor) -> tf.Tensor:
    """The model's dtype, and its sizes where the spec leaves them open."""
    with tf.name_scope(f"{item.name}/model_input/"):
        x = x if x.dtype == wanted.dtype else tf.cast(x, wanted.dtype)
        if wanted.shape is not None:
            x.set_shape(wanted.shape)
        return x


def preprocess(x: tf.Tensor, item: InputSpec) -> list[tf.Tensor]:
    """One input before the first step and after each one; of a vector, from where its images have one size."""
    if item.kind == "encoded":
        return _decoded(x, item)
    if item.kind == "pixels":
        with tf.name_scope(f"{item.name}/fed/"):
            x = _channels_last_batch(x, item)
            x = decode_camera(x, item.channels) if item.channels in CAMERA else x
    return _steps(x, item, 0, len(item.preprocess), item.entry)


def _channels_last_batch(x: tf.Tensor, item: InputSpec) -> tf.Tensor:
    if item.fed.rank == 3:
        x = tf.expand_dims(x, 0)
    return tf.transpose(x, [0, 2, 3, 1]) if item.fed.layout in ("NCHW", "CHW") else x


def _decoded(contents: tf.Tensor, item: InputSpec) -> list[tf.Tensor]:
    """Decode, then the steps; of a vector, image by image until all have one size."""

    def decode_one(content: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(f"{item.name}/decode/"):
            return decode(content, item.channels, item.exif, item.like)

    if not item.is_vector:
        return _steps(decode_one(contents), item, 0, len(item.preprocess), item.entry)
    until = item.first_batched
    at = (item.entry, *item.types)[until]

    def one(content: tf.Tensor) -> tf.Tensor:
        return _steps(decode_one(content), item, 0, until, item.entry)[-1][0]

    images = tf.map_fn(one, contents, fn_output_signature=tf.TensorSpec(at.shape[1:], at.dtype))
    return _steps(images, item, until, len(item.preprocess), at)


def _steps(x: tf.Tensor, item: InputSpec, start: int, stop: int, given: TensorType) -> list[tf.Tensor]:
    """`x` and what it becomes after each step from `start` to before `stop`."""
    stages = [x]
    for index in range(start, stop):
        step = item.preprocess[index]
        with tf.name_scope(f"{item.name}/{index:02d}_{step.op}/"):
            stages.append(step.emit(stages[-1], given))
        given = item.types[index]
    return stages


def postprocess(x: tf.Tensor, output: PlannedOutput) -> list[tf.Tensor]:
    """The public tensors of one output, in the order of `output.emitted`."""
    for index, (step, given) in enumerate(zip(output.spec.postprocess, output.types, strict=False)):
        with tf.name_scope(f"{output.spec.name}/{index:02d}_{step.op}/"):
            if isinstance(step, TopK):
                return list(step.emit_parts(x).values())
            x = step.emit(x, given)
    return [x]
