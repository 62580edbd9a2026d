"""Scales and shifts into the linear op before them: fold-scale-into-conv, fold-shift-into-bias."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.passes import affine, carry
from pbcompile.passes.linear import LINEAR
from tests.passes.trial import answers, apply, declines, make, numbers

SCALE = ("fold-constants", "fold-scale-into-conv")
SHIFT = ("fold-constants", "fold-scale-into-conv", "fold-shift-into-bias")
KERNEL = numbers(3, 3, 4, 8, seed=1)
GAMMA = numbers(8, seed=2)
BETA = numbers(8, seed=3)


def conv(x, kernel=KERNEL, **attrs):
    return tf.raw_ops.Conv2D(**{"input": x, "filter": kernel, "strides": [1, 1, 1, 1], "padding": "SAME", **attrs})


def conv_nchw(x):
    y = tf.raw_ops.Conv2D(input=x, filter=KERNEL, strides=[1, 1, 1, 1], padding="SAME", data_format="NCHW")
    return y * GAMMA[:, None, None] + BETA[:, None, None]


def depthwise(x):
    y = tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=numbers(3, 3, 4, 2, seed=4), strides=[1, 1, 1, 1], padding="SAME"
    )
    return y * GAMMA + BETA


def separable(x):
    y = tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=numbers(3, 3, 4, 2, seed=4), strides=[1, 1, 1, 1], padding="SAME"
    )
    return conv(y, numbers(1, 1, 8, 8, seed=5)) * GAMMA + BETA


def transposed(x):
    y = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=[2, 12, 12, 8], filter=numbers(3, 3, 8, 4, seed=4), out_backprop=x,
        strides=[1, 2, 2, 1], padding="SAME",
    )  # fmt: skip
    return y * GAMMA + BETA


def conv3d(x):
    y = tf.raw_ops.Conv3D(
        input=tf.reshape(x, [2, 3, 2, 6, 4]), filter=numbers(2, 2, 2, 4, 8, seed=4),
        strides=[1, 1, 1, 1, 1], padding="SAME",
    )  # fmt: skip
    return y * GAMMA + BETA


def dilated_native(x):
    return conv(x, dilations=[1, 2, 2, 1]) * GAMMA + BETA


def grouped(x):
    return conv(x, numbers(3, 3, 2, 8, seed=4)) * GAMMA + BETA


def dense(x):
    return tf.raw_ops.MatMul(a=tf.reshape(x, [2, 144]), b=numbers(144, 8, seed=4)) * GAMMA + BETA


def dense_transposed(x):
    y = tf.raw_ops.MatMul(a=tf.reshape(x, [2, 144]), b=numbers(8, 144, seed=4), transpose_b=True)
    return y * GAMMA + BETA


def dense_in_batches(x):
    return tf.raw_ops.BatchMatMulV2(x=x, y=numbers(4, 8, seed=4)) * GAMMA + BETA


def einsum(x):
    return tf.raw_ops.Einsum(inputs=[x, numbers(4, 8, seed=4)], equation="nhwc,cd->nhwd") * GAMMA + BETA


def einsum_transposed(x):
    return tf.raw_ops.Einsum(inputs=[x, numbers(8, 4, seed=4)], equation="...c,dc->...d") * GAMMA + BETA


def product(x):
    """A product of two passes a scale to the side that is linear; the shift stays."""
    return (tf.sigmoid(x[..., :1]) * conv(x)) * GAMMA


def bias_between(x):
    return tf.nn.bias_add(conv(x), numbers(8, seed=5)) * GAMMA + BETA


def chain(x):
    """Rescaling after batch norm after a bias: four affines, one convolution."""
    return (((conv(x) + BETA) * GAMMA + 1.5) / 3.0 - BETA) * -0.5


def uniform(x):
    return conv(x) * 0.25 + 3.0


def residual_branches(x):
    """A batch norm after the sum of two convolutions goes into both."""
    return (conv(x) + conv(x, numbers(1, 1, 4, 8, seed=6))) * GAMMA + BETA


FIRES = [
    conv_nchw, depthwise, separable, transposed, conv3d, dilated_native, grouped, dense, dense_transposed,
    dense_in_batches, einsum, einsum_transposed, bias_between, chain, uniform, residual_branches,
]  # fmt: skip


@pytest.mark.parametrize("build", FIRES, ids=lambda build: build.__name__)
def test_every_linear_op_takes_in_scale_and_shift(build):
    """Questions 1, 3, 4, 5; and no Mul, Div, Sub or loose addition is left."""
    has_double = build is not conv_nchw  # TensorFlow's CPU kernels do NCHW through oneDNN, which has no float64
    graph = answers(
        build, SHIFT, f"fold_affine_{build.__name__}", reduction=160, shape=shape_of(build), oracle=has_double
    )
    left = {node.op for node in graph} - {"Const", "Placeholder", "Reshape"}
    wanted = {"AddV2"} if build is residual_branches else set()
    assert left - wanted <= set(affine_ops()), left


def shape_of(build):
    return (2, 4, 6, 6) if build is conv_nchw else (2, 6, 6, 4)


def affine_ops():
    return [*LINEAR, "BiasAdd"]


def test_conv_golden():
    """The plainest case, as the docstring draws it."""
    answers(lambda x: conv(x) * GAMMA, SCALE, "fold_scale_into_conv", reduction=36)


def test_shift_golden():
    """A shift right behind a convolution becomes its BiasAdd."""
    answers(lambda x: conv(x) + BETA, SHIFT, "fold_shift_into_bias", reduction=36)


def test_scale_passes_a_product():
    """sigmoid(a) · conv(b) · s: into the convolution."""
    answers(product, SCALE, "fold_scale_through_product", reduction=48)


def test_einsum_that_is_no_dense_layer():
    """A diagonal, and one that sums over two axes."""
    build = lambda x: tf.raw_ops.Einsum(inputs=[x, numbers(6, 4, 8)], equation="nhwc,wcd->nhd") * GAMMA  # noqa: E731
    declines(build, SCALE, "is no dense layer")


# ---- the numbered declines of fold-scale-into-conv


def test_scale_1_second_reader():
    """TensorFlow's own fold scales the second reader too (facts 2)."""
    declines(lambda x: ((y := conv(x)) * GAMMA, tf.nn.relu(y)), SCALE, "has another reader")


def test_scale_1_graph_output():
    """The convolution itself is asked for."""
    declines(lambda x: ((y := conv(x)) * GAMMA, y), SCALE, "is a graph output")


def test_scale_1_read_twice_by_one():
    """conv + conv reads one node twice: scaling it once would be half right."""
    declines(lambda x: ((y := conv(x)) + y) * GAMMA, SCALE, "has another reader")


def test_scale_2_not_per_channel():
    """A factor per pixel is no factor per channel."""
    declines(lambda x: conv(x) * numbers(6, 6, 1, seed=5), SCALE, "is not one number per")


def test_scale_2_wrong_axis():
    """Six factors along the width, while the channels are the last axis."""
    declines(lambda x: conv(x) * numbers(6, 1, seed=5), SCALE, "is not one number per output channel")


def test_scale_2_broadcast_enlarges():
    """A one-channel convolution times eight factors makes eight channels."""
    declines(lambda x: conv(x, numbers(3, 3, 4, 1)) * GAMMA, SCALE, "is not one number per channel")


def test_scale_3_does_not_commute():
    """relu6(x) · s is not relu6(x · s)."""
    declines(lambda x: tf.nn.relu6(conv(x)) * GAMMA, SCALE, "does not commute with a scale")


def test_scale_4_weights_computed():
    """The kernel depends on the input."""
    declines(lambda x: conv(x, tf.reshape(x[0, :3, :3], [3, 3, 4, 1])) * 2.0, SCALE, "are no constant")


def test_scale_5_shared_and_large(monkeypatch):
    """Two convolutions share a kernel too large to copy."""
    monkeypatch.setattr(carry, "CLONE_LIMIT", 100)

    def build(x):
        kernel = tf.constant(KERNEL)
        return conv(x, kernel) * GAMMA, conv(tf.nn.relu(x), kernel)

    declines(build, SCALE, "a copy would cost 1152 bytes")


ROUNDINGS = [tf.round, tf.floor, lambda y: tf.cast(y, tf.uint8), lambda y: y > 0.5]


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=["round", "floor", "cast", "compare"])
def test_scale_6_and_shift_4_rounded_later(rounding):
    """x · 0.1 · 3, rounded: 0.1 · 3 as one constant gives another pixel at ties; nor into a blur's kernel."""
    graph = make(lambda x: rounding(conv(tf.abs(x) * 0.1 * 3.0) * 0.5 + 0.5))
    outcomes = apply(graph, *SHIFT, "fold-scale-forward", "pointwise-to-matmul")
    assert sum(outcome.applied for outcome in outcomes.values()) == 1, "only the scales before the blur become one"
    assert all(any("is rounded by" in no.reason for no in outcomes[name].declined) for name in SHIFT[1:])


def test_batch_norms_fold_whatever_follows():
    """A mask is a batch norm, a sigmoid and a comparison: its numbers have the model's tolerance."""
    graph = make(lambda x: tf.sigmoid(conv(x) * GAMMA) > 0.5)
    graph.label("mul", stands_for=["batch_norm:mask"])
    assert apply(graph, *SCALE)["fold-scale-into-conv"].applied == 1


def test_shared_weights_are_copied_never_edited():
    """Two calls of one convolution, each with its own batch norm: both fold, and the kernel of a third stays."""

    def build(x):
        kernel = tf.constant(KERNEL)
        return conv(x, kernel) * GAMMA, conv(-x, kernel) * 3.0, conv(tf.nn.relu(x), kernel)

    graph = answers(build, SCALE, "fold_scale_shared_weights", reduction=36)
    assert [node.op for node in graph].count("Mul") == 0


def test_identity_batch_norm_leaves_the_weights_bit_equal():
    """Scale 1 and shift 0 must not touch a bit."""
    graph = make(lambda x: conv(x) * np.ones(8, np.float32) + np.zeros(8, np.float32))
    apply(graph, *SHIFT)
    weights = graph.const(next(n for n in graph if n.op == "Conv2D").inputs[1])
    assert weights.tobytes() == KERNEL.tobytes()


def test_division_1_by_zero():
    """x / 0 is infinite whatever the kernel."""
    divisor = np.array([0, 1, 2, 3, 4, 5, 6, 7], np.float32)
    graph = make(lambda x: conv(x) / divisor)
    outcome = apply(graph, *SCALE)["fold-scale-into-conv"]
    assert [no.reason for no in outcome.declined] == ["a divisor is zero"]


# ---- the numbered declines of fold-shift-into-bias


def test_shift_1_second_reader():
    """The other reader would be shifted too."""
    declines(lambda x: ((y := conv(x)) + BETA, tf.nn.relu(y)), SHIFT, "has another reader")


def test_shift_1_graph_output():
    """The unshifted convolution is asked for."""
    declines(lambda x: ((y := conv(x)) + BETA, y), SHIFT, "is a graph output")


def test_shift_2_not_per_channel():
    """A summand per pixel (a mean image) is none per channel."""
    declines(lambda x: conv(x) + numbers(6, 6, 8, seed=5), SHIFT, "is not one number per channel")


def test_shift_3_does_not_commute():
    """relu(x) + t is not relu(x + t)."""
    declines(lambda x: tf.nn.relu(conv(x)) + BETA, SHIFT, "does not commute with a shift")


def test_shift_goes_into_the_side_that_takes_it():
    """relu(a) + conv(b) + t: only the convolution's side is linear."""
    answers(lambda x: (tf.nn.relu(conv(x)) + conv(x, numbers(1, 1, 4, 8))) + BETA, SHIFT, "fold_shift_one_side")


# ---- the algebra alone


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul"])
def test_scaling_by_one_and_back_is_exact(op):
    """Powers of two scale without rounding, so there and back is the identity, bit for bit."""
    shape = {"Conv2D": (3, 3, 4, 8), "DepthwiseConv2dNative": (3, 3, 4, 2), "Conv2DBackpropInput": (3, 3, 8, 4)}
    weights = numbers(*shape.get(op, (4, 8))).astype(np.float64)
    scale = 2.0 ** np.arange(-4, 4)
    there = affine.scale_outputs(op, weights, scale)
    assert not np.array_equal(there, weights)
    np.testing.assert_array_equal(affine.scale_outputs(op, there, 1 / scale), weights)


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul"])
def test_large_weights_are_rounded_once_too(op):
    """Float32 weights times float64 factors give the float32 nearest to the product, without a float64 copy."""
    shape = {"Conv2D": (3, 3, 4, 8), "DepthwiseConv2dNative": (3, 3, 4, 2), "Conv2DBackpropInput": (3, 3, 8, 4)}
    weights, scale = numbers(*shape.get(op, (4, 8))), numbers(8, seed=2).astype(np.float64) / 3
    large = affine.scale_outputs(op, weights, scale)
    assert large.dtype == np.float32
    np.testing.assert_array_equal(large, affine.scale_outputs(op, weights.astype(np.float64), scale).astype(np.float32))
