"""Scales, shifts and channel orders into the linear op behind them: fold-scale-forward, fold-shift-forward, …"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.passes import affine, carry
from tests.passes.trial import answers, apply, declines, make, numbers

SCALE = ("fold-scale-forward",)
SHIFT = ("fold-scale-forward", "fold-shift-forward")
S, T = numbers(4, seed=1), numbers(4, seed=2)
KERNEL = numbers(3, 3, 4, 8, seed=3)


def conv(x, kernel=KERNEL, padding="SAME", **attrs):
    return tf.raw_ops.Conv2D(**{"input": x, "filter": kernel, "strides": [1, 1, 1, 1], "padding": padding, **attrs})


def ops(graph):
    return {node.op for node in graph} - {"Const", "Placeholder"}


def grouped(x):
    return conv(x, numbers(3, 3, 2, 8, seed=4), padding="VALID")


def depthwise(x):
    return tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=numbers(3, 3, 4, 2, seed=4), strides=[1, 1, 1, 1], padding="VALID"
    )


def conv3d(x):
    y = tf.reshape(x, [2, 3, 2, 6, 4])
    return tf.raw_ops.Conv3D(input=y, filter=numbers(2, 2, 2, 4, 3), strides=[1] * 5, padding="VALID")


def dense(x):
    return tf.raw_ops.MatMul(a=tf.reshape(x, [-1, 4]), b=numbers(4, 3, seed=4))


def dense_transposed(x):
    return tf.raw_ops.MatMul(a=tf.reshape(x, [-1, 4]), b=numbers(3, 4, seed=4), transpose_b=True)


def pointwise_same(x):
    return conv(x, numbers(1, 1, 4, 3, seed=4), padding="SAME", strides=[1, 2, 2, 1])


LINEAR = [grouped, depthwise, conv3d, dense, dense_transposed, pointwise_same]


@pytest.mark.parametrize("linear", LINEAR, ids=lambda linear: linear.__name__)
def test_scale_and_shift_before_every_linear_op(linear):
    """Where nothing is padded, both go: weights times scale, and the response to the shift as bias."""
    graph = answers(lambda x: linear(x * S + T), SHIFT, f"forward_{linear.__name__}", reduction=80)
    assert not {"Mul", "AddV2"} & ops(graph)
    assert graph.node("out").op == "BiasAdd"


def test_scale_before_a_transposed_convolution():
    """Its padding does not matter to a scale."""

    def build(x):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[2, 12, 12, 8], filter=numbers(3, 3, 8, 4), out_backprop=x * S, strides=[1, 2, 2, 1],
            padding="SAME",
        )  # fmt: skip

    assert ops(answers(build, SCALE, "")) == {"Conv2DBackpropInput"}


def test_rescaling_keeps_its_shift_before_same_padding():
    """x / 127.5 − 1 before SAME: the scale goes into the weights, the shift stays as x − 127.5."""
    graph = answers(lambda x: conv(x * np.float32(1 / 127.5) - 1.0), SCALE, "forward_keeps_shift", reduction=48)
    assert ops(graph) == {"Conv2D", "Sub"}
    (shift,) = [graph.const(node.inputs[1]) for node in graph if node.op == "Sub"]
    assert shift == np.float32(1 / np.float64(np.float32(1 / 127.5))), "rounded once"


def test_normalize():
    """(x − mean) / std before VALID: nothing is left but the convolution and its bias."""
    graph = answers(lambda x: conv((x - T) / np.abs(S), padding="VALID"), SHIFT, "forward_normalize", reduction=80)
    assert ops(graph) == {"Conv2D", "BiasAdd"}


def test_the_bias_behind_is_merged():
    """One BiasAdd, not two."""
    graph = answers(
        lambda x: tf.nn.bias_add(conv(x + T, padding="VALID"), numbers(8)),
        SHIFT[1:],
        "forward_merges_bias",
        reduction=80,
    )
    assert [node.op for node in graph].count("BiasAdd") == 1


def test_two_readers_take_the_scale_each():
    """Both convolutions fold it; the Mul goes when the last has."""
    graph = answers(lambda x: ((y := x * S), conv(y), dense(y))[1:], SCALE, "", reduction=80)
    assert "Mul" not in ops(graph)


def test_hard_swish():
    """x · relu6(x + 3) / 6: the division goes into the convolution behind."""

    def build(x):
        return conv(x * (tf.nn.relu6(x + 3.0) / 6.0))

    graph = answers(build, SCALE, "forward_hard_swish", reduction=48)
    assert sorted(ops(graph)) == ["AddV2", "Conv2D", "Mul", "Relu6"]


def test_a_product_that_broadcasts():
    """A uniform factor of the one channel that is multiplied with all."""
    graph = answers(lambda x: conv(tf.exp(x) * (x[..., :1] * 0.5)), SCALE, "", reduction=48)
    assert [node.op for node in graph].count("Mul") == 1


# ---- the declines of fold-scale-forward


def test_scale_1_second_reader_between():
    """The padded tensor is read twice."""

    def build(x):
        y = tf.pad(x * S, [[0, 0], [1, 1], [1, 1], [0, 0]])
        return conv(y), tf.exp(y)

    declines(build, SCALE, "has another reader")


def test_scale_2_does_not_commute():
    """max(s·x) is s·max(x) for positive s only."""
    declines(lambda x: conv(tf.nn.max_pool2d(x * S, 2, 1, "SAME")), SCALE, "a scale that is not positive")


def test_scale_3_not_per_input_channel():
    """A factor per row reaches a MatMul that contracts something else."""

    def build(x):
        y = tf.transpose(x * S, [0, 1, 3, 2])
        return conv(y, numbers(1, 1, 6, 2))

    declines(build, SCALE, "not one number per input channel")


def test_scale_4_weights():
    """A kernel that is computed."""
    declines(lambda x: conv(x * S, tf.reshape(x[0, :3, :3], [3, 3, 4, 1])), SCALE, "are no constant")


def test_scale_4_shared_and_large(monkeypatch):
    """Two convolutions share it."""
    monkeypatch.setattr("pbcompile.passes.fold_forward.CLONE_LIMIT", 10)
    assert carry.CLONE_LIMIT > 10

    def build(x):
        kernel = tf.constant(KERNEL)
        return conv(x * S, kernel), conv(tf.exp(x), kernel)

    declines(build, SCALE, "a copy would cost 1152 bytes")


def test_scale_5_zero_and_tiny_factors():
    """0·x + t is t: no shift before the zero gives it; nor does one that overflows."""
    declines(lambda x: conv(x * np.float32([1, 0, 1, 1]) + T), SCALE, "a factor of zero hides what AddV2 adds")
    tiny = np.float32([1, 1e-39, 1, 1])
    declines(lambda x: conv(x * tiny + np.float32(4)), SCALE, "overflows")


# ---- the declines of fold-shift-forward


def test_shift_1_padding():
    """At the border some taps see zeros (SAME, EXPLICIT, transposed)."""
    declines(lambda x: conv(x + T), SHIFT, "pads with zeros (SAME)")
    pads = [0, 0, 1, 1, 0, 0, 0, 0]
    declines(lambda x: conv(x + T, padding="EXPLICIT", explicit_paddings=pads), SHIFT, "pads with zeros (EXPLICIT)")

    def transposed(x):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[2, 13, 13, 8], filter=numbers(3, 3, 8, 4), out_backprop=x + T, strides=[1, 2, 2, 1],
            padding="VALID",
        )  # fmt: skip

    declines(transposed, SHIFT, "has borders that fewer taps reach")


def test_shift_1_zero_shift_passes_any_padding():
    """x + 0 is x."""
    graph = answers(lambda x: conv(x + np.zeros(4, np.float32)), SHIFT, "", reduction=48)
    assert "AddV2" not in ops(graph)


def test_shift_2_zero_padding():
    """Padded zeros are not shifted."""
    pads = [[0, 0], [1, 1], [1, 1], [0, 0]]
    declines(lambda x: conv(tf.pad(x + T, pads), padding="VALID"), SHIFT, "does not commute with a shift")


def test_shift_3_second_reader_between():
    """The pooled tensor is read twice."""

    def build(x):
        y = tf.nn.max_pool2d(x + T, 2, 1, "VALID")
        return conv(y, padding="VALID"), tf.exp(y)

    declines(build, SHIFT, "has another reader")


def test_shift_4_not_per_input_channel():
    """Shifts along the width before a convolution."""
    build = lambda x: conv(tf.transpose(x + T, [0, 1, 3, 2]), numbers(1, 1, 6, 2), padding="VALID")  # noqa: E731
    declines(build, SHIFT, "not one number per input channel")


def test_shift_5_weights():
    """A kernel that is computed."""
    declines(lambda x: conv(x + T, tf.reshape(x[0, :3, :3], [3, 3, 4, 1]), "VALID"), SHIFT, "are no constant")


def test_shift_6_needed_elsewhere():
    """Then the addition stays, and a bias more would be work more."""
    declines(lambda x: ((y := x + T), conv(y, padding="VALID"), tf.exp(y))[1:], SHIFT, "is needed elsewhere too")


def test_the_bias_of_a_convolution_stays():
    """It costs nothing where it is: TensorFlow fuses it."""
    graph = make(lambda x: dense(tf.nn.bias_add(conv(x, numbers(1, 1, 4, 4)), T)))
    assert apply(graph, *SHIFT)["fold-shift-forward"].applied == 0


# ---- the algebra alone


@pytest.mark.parametrize(("op", "shape"), [("Conv2D", (3, 3, 2, 8)), ("DepthwiseConv2dNative", (3, 3, 4, 2))])
def test_the_response_to_a_shift_is_the_op_on_a_constant(op, shape):
    """Against the op itself, in float64."""
    weights = numbers(*shape).astype(np.float64)
    constant = np.broadcast_to(T.astype(np.float64), (1, 3, 3, 4))
    arguments = {"input": constant, "filter": weights, "strides": [1, 1, 1, 1], "padding": "VALID"}
    want = getattr(tf.raw_ops, op)(**arguments).numpy().reshape(-1)
    np.testing.assert_allclose(affine.response_to_shift(op, weights, T.astype(np.float64)), want, rtol=1e-14)
