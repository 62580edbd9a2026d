"""One traced function: what is fed, the spec's steps, the model, and the steps behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from pbcompile.models import LoadedModel, ModelTensor
from pbcompile.plan import Plan, PlannedOutput
from pbcompile.spec import InputSpec, Spec
from pbcompile.steps.base import PartsStep
from pbcompile.steps.camera import CAMERA, decode_camera
from pbcompile.steps.decoding import decode
from pbcompile.steps.kernels.exif import orientation
from pbcompile.steps.kernels.placement import chain_of, exif_turn, matrix_of, turn_back
from pbcompile.steps.kernels.sizes import image_size
from pbcompile.steps.placement import Placed
from pbcompile.tensor_type import TensorType


def graft(plan: Plan, model: LoadedModel) -> Any:
    """Trace the whole program.

    Returns a concrete function whose arguments are the spec's inputs in order, and whose result is a list: the public
    outputs in the plan's order, then the plan's taps.  Nodes are named after the spec: `image/02_normalize/…`,
    `model/…`, `top5/00_top_k/…`.
    """

    @tf.function(input_signature=_signature(plan.spec), autograph=False)  # type: ignore[untyped-decorator]
    def fused(*fed: tf.Tensor) -> list[tf.Tensor]:
        ready, taps, placed = {}, [], {}
        looked_at = {output.image for output in plan.outputs}
        for item, x in zip(plan.spec.inputs, _with_one_batch(plan, fed), strict=True):
            stages, placed[item.name] = prepare(x, item, with_places=item.name in looked_at)
            taps += stages
            ready[item.name] = _as_model_takes(stages[-1], item, plan.targets[item.name])
        with tf.name_scope("model/"):
            given = model.call({name: ready[item.name] for name, item in plan.feeds.items()})
        answers = [
            tensor
            for output in plan.outputs
            for tensor in postprocess(output.given(given), output, placed.get(output.image or ""))
        ]
        return answers + taps

    return fused.get_concrete_function()


def graft_preprocessing(spec: Spec) -> Any:
    """The steps alone: a concrete function from the spec's inputs to its taps."""

    @tf.function(input_signature=_signature(spec), autograph=False)  # type: ignore[untyped-decorator]
    def prepared(*fed: tf.Tensor) -> list[tf.Tensor]:
        return [stage for item, x in zip(spec.inputs, fed, strict=True) for stage in preprocess(x, item)]

    return prepared.get_concrete_function()


def _signature(spec: Spec) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(item.fed.shape, item.fed.dtype, name=_argument(item.name)) for item in spec.inputs]


def _with_one_batch(plan: Plan, fed: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """What is fed, with a SplitV that fails, and says so by its name, where the batches of two inputs differ.

    A model might broadcast one image over ten vectors without a word.  Fixed batches were compared in the plan.
    """
    pairs = list(zip(plan.spec.inputs, fed, strict=True))
    # The first fixed batch, or that of the first input.
    like, x0 = next(((item, x) for item, x in pairs if item.batch is not None), pairs[0])
    batch = tf.shape(x0)[0] if like.batch is None else tf.constant(like.batch)
    ready = []
    for item, x in pairs:
        if item is not like and item.batch is None:
            with tf.name_scope(f"{item.name}/batch/"):
                sizes = tf.stack([batch, 0])  # of two parts, as a split into one looks at nothing
                name = f"batch_of_{_argument(item.name)}_must_be_that_of_{_argument(like.name)}"
                x = tf.raw_ops.SplitV(value=x, size_splits=sizes, axis=0, num_split=2, name=name)[0]
        ready.append(x)
    return ready


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
    return prepare(x, item)[0]


def prepare(x: tf.Tensor, item: InputSpec, *, with_places: bool = False) -> tuple[list[tf.Tensor], Placed | None]:
    """`preprocess`, and where the pixels went if that is asked for."""
    if item.kind == "encoded":
        return _decoded(x, item, with_places)
    fed = x
    if item.kind == "pixels":
        with tf.name_scope(f"{item.name}/fed/"):
            x = _channels_last_batch(x, item)
            x = decode_camera(x, item.channels) if item.channels in CAMERA else x
    placed = _place(fed, x, item) if with_places else None
    return _steps(x, item, 0, len(item.preprocess), item.entry), placed


def _place(fed: tf.Tensor, image: tf.Tensor, item: InputSpec) -> Placed:
    """Where the pixels of one image, or of images of one size, go."""
    with tf.name_scope(f"{item.name}/places/"):
        size = image_size(image, item.entry)
        moves, final = chain_of(item.preprocess, (item.entry, *item.types)[: len(item.preprocess)], size)
        matrix = matrix_of(moves)
        sides = tf.stack([tf.cast(side, tf.float64) for side in size])
        stored, stored_sides = matrix, sides
        if item.as_image.has_stored:
            turn = exif_turn(orientation(fed))
            stored = turn_back(turn, size) @ matrix
            stored_sides = tf.where(turn[0], tf.reverse(sides, [0]), sides)
        batch = [tf.expand_dims(value, 0) for value in (matrix, stored, sides, stored_sides)]
        return Placed(batch[0], batch[1], batch[2], batch[3], tuple(moves), final)


def _channels_last_batch(x: tf.Tensor, item: InputSpec) -> tf.Tensor:
    if item.fed.rank == 3:
        x = tf.expand_dims(x, 0)
    return tf.transpose(x, [0, 2, 3, 1]) if item.fed.layout in ("NCHW", "CHW") else x


def _decoded(contents: tf.Tensor, item: InputSpec, with_places: bool) -> tuple[list[tf.Tensor], Placed | None]:
    """Decode, then the steps; of a vector, image by image until all have one size."""

    def decode_one(content: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(f"{item.name}/decode/"):
            return decode(content, item.channels, item.exif, item.like)

    if not item.is_vector:
        image = decode_one(contents)
        placed = _place(contents, image, item) if with_places else None
        return _steps(image, item, 0, len(item.preprocess), item.entry), placed
    until = item.first_batched
    at = (item.entry, *item.types)[until]

    def one(content: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image = decode_one(content)
        ready = _steps(image, item, 0, until, item.entry)[-1][0]
        if not with_places:
            return (ready,)
        placed = _place(content, image, item)
        return ready, placed.matrix[0], placed.stored[0], placed.size[0], placed.stored_size[0]

    numbers = [tf.TensorSpec(shape, tf.float64) for shape in ([3, 3], [3, 3], [2], [2])] if with_places else []
    signature = (tf.TensorSpec(at.shape[1:], at.dtype), *numbers)
    images, *places = tf.map_fn(one, contents, fn_output_signature=signature)
    stages = _steps(images, item, until, len(item.preprocess), at)
    if not with_places:
        return stages, None
    # A vector's images have one size before they reach the model, or the spec was refused.
    height, width = item.as_image.size
    return stages, Placed(places[0], places[1], places[2], places[3], (), (height, width))


def _steps(x: tf.Tensor, item: InputSpec, start: int, stop: int, given: TensorType) -> list[tf.Tensor]:
    """`x` and what it becomes after each step from `start` to before `stop`."""
    stages = [x]
    for index in range(start, stop):
        step = item.preprocess[index]
        with tf.name_scope(f"{item.name}/{index:02d}_{step.op}/"):
            stages.append(step.emit(stages[-1], given))
        given = item.types[index]
    return stages


def postprocess(x: Mapping[str, tf.Tensor], output: PlannedOutput, placed: Placed | None) -> list[tf.Tensor]:
    """The public tensors of one output, in the order of `output.emitted`.

    x: what the model gives, by part; placed: the pixels of the image that the output looks at.
    """
    for index, (step, given) in enumerate(zip(output.spec.postprocess, output.types, strict=False)):
        with tf.name_scope(f"{output.spec.name}/{index:02d}_{step.op}/"):
            if isinstance(step, PartsStep):
                x = step.emit_parts(x, given, placed if step.uses_image else None)
            else:
                x = {"": step.emit(x[""], given[""])}
    return list(x.values())
