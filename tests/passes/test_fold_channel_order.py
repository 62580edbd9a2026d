"""fold-channel-order: RGB to BGR and back, into the weights of what reads the channels at last."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.graph import portable_graph_def
from tests.passes.trial import answers, apply, declines, make, numbers, run

ORDER = ("fold-channel-order",)
T = numbers(4, seed=2)
KERNEL = numbers(3, 3, 4, 8, seed=3)


def conv(x, kernel=KERNEL, padding="SAME", **attrs):
    return tf.raw_ops.Conv2D(**{"input": x, "filter": kernel, "strides": [1, 1, 1, 1], "padding": padding, **attrs})


def ops(graph):
    return {node.op for node in graph} - {"Const", "Placeholder"}


def reverse_v2(x):
    return tf.reverse(x, [-1])


def strided(x):
    return x[..., ::-1]


def gathered(x):
    return tf.gather(x, [2, 0, 3, 1], axis=3)


@pytest.mark.parametrize("swap", [reverse_v2, strided, gathered], ids=lambda swap: swap.__name__)
def test_channel_orders_go_into_the_weights(swap):
    """RGB to BGR, then the mean of each channel, padding, the convolution: only the constants are reordered."""

    def build(x):
        y = tf.pad(tf.nn.relu(swap(x)) - T, [[0, 0], [1, 1], [1, 1], [0, 0]])
        return conv(y, padding="VALID")

    graph = answers(build, ORDER, f"channel_order_{swap.__name__}", reduction=48)
    assert ops(graph) == {"Relu", "Sub", "Pad", "Conv2D"}


def test_two_orders_cancel():
    """BGR to RGB by the spec, RGB to BGR by the model's preprocessing: the first kernel is as it was."""
    graph = make(lambda x: conv(reverse_v2(strided(x))))
    assert apply(graph, *ORDER)["fold-channel-order"].applied == 2
    assert ops(graph) == {"Conv2D"}
    np.testing.assert_array_equal(graph.const(graph.node("out").inputs[1]), KERNEL)


def test_a_resize_written_out():
    """Gathers of rows and columns, differences, weights per column, shapes asked for, integers: all in one region."""

    def build(x):
        y = reverse_v2(tf.cast(tf.abs(x) * 100, tf.uint8))
        height = tf.raw_ops.Shape(input=y)[1]
        rows = tf.gather(y, tf.range(3) * height // 3, axis=1)
        left, right = (tf.cast(tf.gather(rows, i, axis=2), tf.int32) for i in ([0, 2, 4], [1, 3, 5]))
        mixed = tf.bitwise.right_shift(left * [[3], [2], [1]] + right * [[1], [2], [3]] + 2, 2)
        return conv(tf.cast(mixed, tf.float32) - T)

    graph = answers(build, ORDER, "", reduction=64, oracle=False)
    assert "ReverseV2" not in ops(graph)


def test_two_readers_and_a_depthwise_blur():
    """Both convolutions are reordered, and so is the blur's kernel between."""

    def build(x):
        y = reverse_v2(x)
        blurred = tf.raw_ops.DepthwiseConv2dNative(
            input=y, filter=numbers(3, 3, 4, 1, seed=5), strides=[1, 1, 1, 1], padding="SAME"
        )
        return conv(blurred + T), conv(tf.nn.max_pool2d(y, 2, 2, "SAME"))

    assert "ReverseV2" not in ops(answers(build, ORDER, "channel_order_two_readers", reduction=64))


def test_a_dense_layer_behind_a_mean():
    """Global pooling moves the channels to axis 1."""
    graph = answers(lambda x: tf.reduce_mean(reverse_v2(x), [1, 2]) @ numbers(4, 3), ORDER, "", reduction=64)
    assert "ReverseV2" not in ops(graph)


def test_order_1_graph_output():
    """It would come out in the wrong order: the picture itself, or something between."""
    declines(reverse_v2, ORDER, "is a graph output")
    declines(lambda x: ((y := tf.nn.relu(reverse_v2(x))), conv(y)), ORDER, "is a graph output")


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.reshape(reverse_v2(x), [2, 144]) @ numbers(144, 3),
        lambda x: conv(tf.reduce_mean(reverse_v2(x), 3, keepdims=True), numbers(1, 1, 1, 2)),
        lambda x: conv(tf.concat([reverse_v2(x), x], 3), numbers(1, 1, 8, 2)),
        lambda x: conv(reverse_v2(x) + x),
        lambda x: conv(tf.stack([reverse_v2(x)[..., 0]] * 4, 3)),
        lambda x: tf.reshape(tf.nn.softmax(reverse_v2(x)), [-1, 4]) @ numbers(4, 3),
    ],
    ids=["flattened", "mean", "concat", "sum with the original", "one channel", "softmax"],
)
def test_order_2_mixes_channels(build):
    """Whatever looks at more than one channel, or at channels of another order, declines; the numbers stay."""
    graph = make(build)
    feed = numbers(2, 6, 6, 4, seed=7)
    want = run(portable_graph_def(make(build)), feed, ["out"])[0]
    outcome = apply(graph, *ORDER)["fold-channel-order"]
    assert outcome.applied == 0
    assert len(outcome.declined) == 1
    np.testing.assert_array_equal(run(portable_graph_def(graph), feed, ["out"])[0], want)


def test_order_3_groups():
    """Reordering the inputs of a grouped or multiplying convolution reorders its outputs."""
    declines(lambda x: conv(reverse_v2(x), numbers(3, 3, 2, 8)), ORDER, "reads its channels in groups")

    def multiplying(x):
        y = tf.raw_ops.DepthwiseConv2dNative(
            input=reverse_v2(x), filter=numbers(3, 3, 4, 2), strides=[1, 1, 1, 1], padding="SAME"
        )
        return tf.nn.relu(y)

    declines(multiplying, ORDER, "keeps its channels apart")


def test_order_4_weights():
    """A kernel that is computed; one whose sums are rounded."""
    graph = make(lambda x: conv(reverse_v2(x), tf.reshape(x[0, :3, :3], [3, 3, 4, 1])))
    (outcome,) = apply(graph, *ORDER).values()
    assert ["are no constant" in no.reason for no in outcome.declined] == [True]
    declines(lambda x: tf.round(conv(reverse_v2(x), numbers(1, 1, 4, 1))), ORDER, "is rounded by")


def test_flips_are_no_channel_orders():
    """Reversing the width is a flip: the convolution is not symmetric."""
    declines(lambda x: conv(tf.reverse(x, [2])), ORDER, "does not read the channels as such")


def test_a_batch_reversed_is_left_alone():
    """Axis 0 has no channels."""
    graph = make(lambda x: conv(tf.reverse(x, [0])))
    assert apply(graph, *ORDER)["fold-channel-order"].applied == 0
