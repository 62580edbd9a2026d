"""One traced function: what is fed, the spec's steps, the model, and the steps behind it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pbcompile.models import LoadedModel
from pbcompile.plan import Plan, PlannedOutput
from pbcompile.spec import InputSpec
from pbcompile.steps.decoding import decode
from pbcompile.steps.postprocess import TopK
from pbcompile.tensor_type import TensorType


def graft(plan: Plan, model: LoadedModel) -> Any:
    """Trace the whole program.

    Returns a concrete function whose arguments are the spec's inputs in order, and whose result is a list: the public
    outputs in the plan's order, then what reaches the model from each input, in the spec's order.  Nodes are named
    after the spec: `image/02_normalize/…`, `model/…`, `top5/00_top_k/…`.
    """
    signature = [tf.TensorSpec(item.fed.shape, item.fed.dtype, name=_argument(item.name)) for item in plan.spec.inputs]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def fused(*fed: tf.Tensor) -> list[tf.Tensor]:
        ready = {}
        for item, x in zip(plan.spec.inputs, fed, strict=True):
            wanted = plan.targets[item.name]
            with tf.name_scope(f"{item.name}/model_input/"):
                x = preprocess(x, item)
                x = x if x.dtype == wanted.dtype else tf.cast(x, wanted.dtype)
                x = tf.ensure_shape(x, wanted.shape) if not x.shape.is_compatible_with(wanted.shape) else x
            ready[item.name] = x
        with tf.name_scope("model/"):
            given = model.call({name: ready[item.name] for name, item in plan.feeds.items()})
        emitted = [tensor for output in plan.outputs for tensor in postprocess(given[output.source], output)]
        return emitted + [ready[item.name] for item in plan.spec.inputs]

    return fused.get_concrete_function()


def _argument(name: str) -> str:
    return name.replace("/", "_").replace(".", "_").replace("-", "_")


def preprocess(x: tf.Tensor, item: InputSpec) -> tf.Tensor:
    """What one input becomes before the model, without the cast to the model's dtype."""
    if item.kind == "encoded":
        return _decoded(x, item)
    if item.kind == "pixels":
        with tf.name_scope(f"{item.name}/fed/"):
            x = _channels_last_batch(x, item)
    return _steps(x, item, 0, len(item.preprocess), item.entry)


def _channels_last_batch(x: tf.Tensor, item: InputSpec) -> tf.Tensor:
    if item.fed.rank == 3:
        x = tf.expand_dims(x, 0)
    return tf.transpose(x, [0, 2, 3, 1]) if item.fed.layout in ("NCHW", "CHW") else x


def _decoded(contents: tf.Tensor, item: InputSpec) -> tf.Tensor:
    """Decode, then the steps; of a vector, image by image until all have one size."""

    def decode_one(content: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(f"{item.name}/decode/"):
            return decode(content, item.channels, item.exif)

    if not item.is_vector:
        return _steps(decode_one(contents), item, 0, len(item.preprocess), item.entry)
    entry = item.entry
    stages: list[TensorType] = [entry, *item.types]
    until = next(index for index, given in enumerate(stages) if None not in given.shape[1:])
    at = stages[until]

    def one(content: tf.Tensor) -> tf.Tensor:
        return _steps(decode_one(content), item, 0, until, entry)[0]

    images = tf.map_fn(one, contents, fn_output_signature=tf.TensorSpec(at.shape[1:], at.dtype))
    return _steps(images, item, until, len(item.preprocess), at)


def _steps(x: tf.Tensor, item: InputSpec, start: int, stop: int, given: TensorType) -> tf.Tensor:
    for index in range(start, stop):
        step = item.preprocess[index]
        with tf.name_scope(f"{item.name}/{index:02d}_{step.op}/"):
            x = step.emit(x, given)
        given = item.types[index]
    return x


def postprocess(x: tf.Tensor, output: PlannedOutput) -> list[tf.Tensor]:
    """The public tensors of one output, in the order of `output.emitted`."""
    for index, (step, given) in enumerate(zip(output.spec.postprocess, output.types, strict=False)):
        with tf.name_scope(f"{output.spec.name}/{index:02d}_{step.op}/"):
            if isinstance(step, TopK):
                return list(step.emit_parts(x).values())
            x = step.emit(x, given)
    return [x]
