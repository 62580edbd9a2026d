"""Every line of the table of commuting ops, backwards into the convolution before and forwards into the one behind."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.passes.commute import COMMUTING
from tests.passes.trial import answers, apply, declines, make, numbers

SCALE = ("fold-constants", "fold-scale-into-conv")
SHIFT = ("fold-shift-into-bias",)
SCALE_FORWARD = ("fold-scale-forward",)
SHIFT_FORWARD = ("fold-shift-forward",)

FACTORS = np.array([0.5, 1.5, 0.75, 2.0], np.float32)
MIXED = FACTORS * np.array([1, -1, 1, -1], np.float32)
OFFSETS = np.array([1.0, -0.5, 0.25, 3.0], np.float32)


def conv(x, outs=4, seed=1, padding="SAME"):
    kernel = tf.constant(numbers(1, 1, x.shape[-1], outs, seed=seed))
    return tf.raw_ops.Conv2D(input=x, filter=kernel, strides=[1, 1, 1, 1], padding=padding)


def pool3d(op):
    return lambda y: getattr(tf.raw_ops, op)(
        input=tf.reshape(y, [2, 2, 3, 6, 4]), ksize=[1, 2, 1, 2, 1], strides=[1, 2, 1, 2, 1], padding="SAME"
    )


def resize(op):
    return lambda y: getattr(tf.raw_ops, op)(images=y, size=[9, 13])


PADS = np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)

OPS = {
    "Identity": tf.identity,
    "Reshape": lambda y: tf.reshape(y, [2, 36, 4]),
    "Squeeze": lambda y: tf.squeeze(tf.raw_ops.AvgPool(value=y, ksize=[1, 6, 6, 1], strides=[1] * 4, padding="VALID")),
    "ExpandDims": lambda y: tf.expand_dims(y, 1),
    "Transpose": lambda y: tf.transpose(y, [0, 2, 1, 3]),
    "AvgPool": lambda y: tf.raw_ops.AvgPool(value=y, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"),
    "AvgPool3D": pool3d("AvgPool3D"),
    "MaxPool": lambda y: tf.raw_ops.MaxPool(input=y, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"),
    "MaxPool3D": pool3d("MaxPool3D"),
    "Mean": lambda y: tf.reduce_mean(y, [1, 2]),
    "Sum": lambda y: tf.reduce_sum(y, [1, 2], keepdims=True),
    "Max": lambda y: tf.reduce_max(y, [1, 2]),
    "Min": lambda y: tf.reduce_min(y, [2], keepdims=True),
    "Pad": lambda y: tf.pad(y, PADS),
    "MirrorPad": lambda y: tf.pad(y, PADS, "REFLECT"),
    "SpaceToBatchND": lambda y: tf.raw_ops.SpaceToBatchND(input=y, block_shape=[2, 3], paddings=[[0, 0], [0, 0]]),
    "BatchToSpaceND": lambda y: tf.raw_ops.BatchToSpaceND(input=y, block_shape=[2], crops=[[1, 0]]),
    "ResizeNearestNeighbor": resize("ResizeNearestNeighbor"),
    "ResizeBilinear": resize("ResizeBilinear"),
    "ResizeArea": resize("ResizeArea"),
    "ResizeBicubic": resize("ResizeBicubic"),
    "Slice": lambda y: tf.slice(y, [0, 1, 2, 0], [2, 3, 4, 4]),
    "StridedSlice": lambda y: y[:, 1:, :-1],
    "Relu": tf.nn.relu,
    "LeakyRelu": lambda y: tf.nn.leaky_relu(y, 0.3),
}


def test_no_line_of_the_table_is_untested():
    """A new op needs a graph here."""
    assert set(OPS) == set(COMMUTING)


NO_FLOAT64 = {"ResizeBilinear", "ResizeArea", "ResizeBicubic", "AvgPool3D", "MaxPool3D"}
"""They give float32 whatever they read, or have no float64 kernel: the oracle is float32's own arithmetic."""


@pytest.mark.parametrize("op", sorted(OPS))
def test_scales_go_backwards(op):
    """f(conv(x)) · s: no Mul is left; where only positive scales pass, negative ones are declined."""
    positive = COMMUTING[op].scale == "positive"
    factors = FACTORS if positive else MIXED
    graph = answers(lambda x: OPS[op](conv(x)) * factors, SCALE, "", reduction=256, oracle=op not in NO_FLOAT64)
    assert op in {node.op for node in graph}
    assert "Mul" not in {node.op for node in graph}
    if positive:
        declines(lambda x: OPS[op](conv(x)) * MIXED, SCALE, "a scale that is not positive")


@pytest.mark.parametrize("op", sorted(OPS))
def test_shifts_go_backwards(op):
    """f(conv(x)) + t: the addition ends in a BiasAdd right behind the convolution."""
    build = lambda x: OPS[op](conv(x)) + OFFSETS  # noqa: E731
    if not COMMUTING[op].shift:
        declines(build, SHIFT, "does not commute with a shift")
        return
    graph = answers(build, SHIFT, "", reduction=256, oracle=op not in NO_FLOAT64)
    (bias,) = [node for node in graph if node.op == "BiasAdd"]
    assert graph.producer_of(bias.inputs[0]).op == "Conv2D"
    assert "AddV2" not in {node.op for node in graph}


def dense(y):
    """A linear op behind any rank."""
    flat = tf.reshape(y, [-1, 4])
    return tf.raw_ops.MatMul(a=flat, b=numbers(4, 3, seed=2))


@pytest.mark.parametrize("op", sorted(OPS))
def test_scales_go_forwards(op):
    """dense(f(x · s)): no Mul is left."""
    factors = FACTORS if COMMUTING[op].scale == "positive" else MIXED
    graph = answers(
        lambda x: dense(OPS[op](x * factors)), SCALE_FORWARD, "", reduction=256, oracle=op not in NO_FLOAT64
    )
    assert "Mul" not in {node.op for node in graph}


@pytest.mark.parametrize("op", sorted(OPS))
def test_shifts_go_forwards(op):
    """dense(f(x + t)): the addition becomes the bias."""
    build = lambda x: dense(OPS[op](x + OFFSETS))  # noqa: E731
    if not COMMUTING[op].shift:
        declines(build, SHIFT_FORWARD, "does not commute with a shift")
        return
    graph = answers(build, SHIFT_FORWARD, "", reduction=256, oracle=op not in NO_FLOAT64)
    assert graph.node("out").op == "BiasAdd"
    assert "AddV2" not in {node.op for node in graph}


# ---- the ways in which they do not commute


def test_padding_along_the_channels():
    """Padded channels have no factor."""
    pads = [[0, 0], [0, 0], [0, 0], [0, 1]]
    declines(lambda x: tf.pad(conv(x), pads) * numbers(5), SCALE, "works along the channels")


def test_padding_that_is_fed():
    """What the paddings are is not known."""
    declines(
        lambda x: tf.pad(conv(x), tf.cast(x[0, 0, :4, :2] * 0, tf.int32) * [[0], [1], [1], [0]]) * 2.0,
        SCALE,
        "is told what to do while it runs",
    )


def test_space_to_batch_that_pads():
    """Zeros among the blocks are not shifted; a scale passes."""

    def blocks(y):
        return tf.raw_ops.SpaceToBatchND(input=y, block_shape=[4, 4], paddings=[[1, 1], [0, 2]])

    declines(lambda x: blocks(conv(x)) + OFFSETS, SHIFT, "pads with zeros")
    answers(lambda x: blocks(conv(x)) * MIXED, SCALE, "")


def test_a_reduction_over_the_channels():
    """The mean over channels is no scale per channel."""
    declines(lambda x: tf.reduce_mean(x * MIXED, 3) @ numbers(6, 3), SCALE_FORWARD, "works along the channels")


def test_a_reshape_that_moves_the_channels():
    """[2, 6, 6, 4] as [2, 4, 36] has four of something, but no channels."""
    build = lambda x: tf.reshape(conv(x), [2, 4, 36]) * MIXED[:, None]  # noqa: E731
    declines(build, SCALE, "does not keep the channels")


def test_a_reshape_with_open_sizes():
    """Sizes before the channels may be open."""
    answers(lambda x: tf.reshape(conv(x), [-1, 4]) * MIXED, SCALE, "", shape=(None, None, None, 4))


def test_a_slice_of_the_channels():
    """Half of the channels have half of the factors."""
    declines(lambda x: conv(x)[..., :2] * numbers(2), SCALE, "works along the channels")


def test_resizing_bytes():
    """Rounding is not linear: nothing passes a resize of uint8."""
    declines(
        lambda x: tf.cast(tf.image.resize(tf.cast(conv(x), tf.int32), [3, 3], "nearest"), tf.float32) * MIXED,
        SCALE,
        "does not commute with a scale",
    )


def test_concat_slice_by_slice():
    """Each branch takes its part of the scale and the shift; a branch with a bias too."""

    def build(x):
        parts = [
            conv(x, 3),
            tf.nn.bias_add(conv(x, 4, seed=2), OFFSETS),
            tf.nn.avg_pool2d(conv(x, 1, seed=3), 3, 1, "SAME"),
        ]
        return tf.concat(parts, 3) * numbers(8, seed=4) + numbers(8, seed=5)

    graph = answers(build, (*SCALE, *SHIFT), "concat_slice_by_slice", reduction=48)
    assert not {"Mul", "AddV2"} & {node.op for node in graph}


def test_concat_along_another_axis():
    """Every part takes all of it."""
    graph = answers(lambda x: tf.concat([conv(x), conv(x, seed=2)], 1) * MIXED + OFFSETS, (*SCALE, *SHIFT), "")
    assert not {"Mul", "AddV2"} & {node.op for node in graph}


def test_concat_with_one_branch_that_cannot():
    """All or nothing: a Mul on one branch would be no gain."""
    declines(lambda x: tf.concat([conv(x), tf.exp(x)], 3) * numbers(8), SCALE, "does not commute with a scale")


def test_dilated_convolution_through_blocks():
    """SpaceToBatch, convolution, BatchToSpace, batch norm: as old Keras dilates."""

    def build(x):
        blocks = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[2, 2], [2, 2]])
        kernel = tf.constant(numbers(3, 3, 4, 4))
        y = tf.raw_ops.Conv2D(input=blocks, filter=kernel, strides=[1, 1, 1, 1], padding="VALID")
        return tf.raw_ops.BatchToSpaceND(input=y, block_shape=[2, 2], crops=[[0, 0], [0, 0]]) * MIXED + OFFSETS

    graph = answers(build, (*SCALE, *SHIFT), "dilated_through_blocks", reduction=48)
    assert not {"Mul", "AddV2"} & {node.op for node in graph}


def test_one_dimensional_convolution():
    """Conv1D is ExpandDims, Conv2D, Squeeze."""

    def build(x):
        y = tf.nn.conv1d(tf.reshape(x, [2, 36, 4]), tf.constant(numbers(3, 4, 4)), 1, "SAME")
        return y * MIXED + OFFSETS

    graph = answers(build, (*SCALE, *SHIFT), "one_dimensional", reduction=48)
    assert not {"Mul", "AddV2"} & {node.op for node in graph}


def test_flatten_into_dense():
    """A scale and shift per channel before Flatten become one per feature of the Dense."""

    def build(x):
        return tf.raw_ops.MatMul(a=tf.reshape(x * MIXED + OFFSETS, [2, 144]), b=numbers(144, 3, seed=2))

    graph = answers(build, (*SCALE_FORWARD, *SHIFT_FORWARD), "flatten_into_dense", reduction=160)
    assert not {"Mul", "AddV2"} & {node.op for node in graph}


def test_flatten_channels_first():
    """The same with [N, C, H, W]."""

    def build(x):
        y = tf.transpose(tf.nn.relu(x), [0, 3, 1, 2]) * MIXED[:, None, None] + OFFSETS[:, None, None]
        return tf.raw_ops.MatMul(a=tf.reshape(y, [2, 144]), b=numbers(144, 3, seed=2))

    graph = answers(build, (*SCALE_FORWARD, *SHIFT_FORWARD), "", reduction=160)
    assert not {"Mul", "AddV2"} & {node.op for node in graph}


def test_nothing_is_left_behind():
    """A decline far up leaves no half-made chain."""
    graph = make(lambda x: tf.nn.avg_pool2d(tf.concat([conv(x), tf.exp(x)], 3), 2, 2, "SAME") * numbers(8))
    before = len(graph)
    apply(graph, *SCALE)
    assert len(graph) == before
