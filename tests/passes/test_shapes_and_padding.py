"""fix-shapes, fold-padding-into-conv, split-explicit-padding, pointwise-to-matmul, affine-to-depthwise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.graph import portable_graph_def
from pbcompile.passes import optimize
from tests.passes.trial import answers, apply, declines, make, numbers, run

FIX = ("fix-shapes",)
PADDING = ("fold-padding-into-conv",)
MATMUL = ("pointwise-to-matmul",)
DEPTHWISE = ("affine-to-depthwise",)
WIDE = (2, 16, 16, 512)
OPEN = (None, 6, 6, 4)


def ops(graph):
    return sorted(node.op for node in graph if node.op not in ("Const", "Placeholder"))


def conv(x, kernel=None, stride=1, padding="SAME", **attrs):
    kernel = numbers(1, 1, int(x.shape[-1]), 8, seed=1) if kernel is None else kernel
    return tf.raw_ops.Conv2D(
        **{"input": x, "filter": kernel, "strides": [1, stride, stride, 1], "padding": padding, **attrs}
    )


# ---- fix-shapes


def squeeze_and_excite(x):
    """As Keras freezes it: the mean is reshaped with arithmetic on its own shape."""
    mean = tf.reduce_mean(x, [1, 2])
    return x * tf.reshape(mean, tf.stack([tf.shape(mean)[0], 1, 1, 4]))


def test_squeeze_and_excite_needs_no_shapes():
    """Shape, StridedSlice, Pack, Reshape: one Mean that keeps its sizes."""
    graph = answers(squeeze_and_excite, FIX, "fix_shapes", shape=OPEN)
    assert ops(graph) == ["Mean", "Mul"]


def test_known_sizes_are_constants():
    """The shape itself, one size of it, several, and what is computed from them."""

    def build(x):
        shape = tf.shape(x)
        return tf.reshape(x, [-1, shape[1] * shape[2], 4]), tf.nn.relu(x) + tf.cast(shape[1:3][0], tf.float32)

    graph = make(build, OPEN)
    apply(graph, *FIX, "fold-constants")
    apply(graph, *FIX, "fold-constants")
    assert ops(graph) == ["AddV2", "Relu", "Reshape"]
    assert graph.const(graph.node("out").inputs[1]).tolist() == [-1, 36, 4]


def test_a_dense_layer_on_maps():
    """Keras writes it as gathers, products and concatenations of sizes around one MatMul."""

    def build(x):
        return tf.tensordot(x, tf.constant(numbers(4, 3)), [[3], [0]])

    graph = answers(build, FIX, "fix_dense_on_maps", shape=(None, 6, 6, 4))
    graph.prune()
    assert ops(graph) == ["MatMul", "Reshape", "Reshape"]


def test_transposes_cancel():
    """One that moves nothing, two that undo each other, two that do not."""

    def build(x):
        y = tf.transpose(tf.transpose(tf.transpose(x, [0, 1, 2, 3]), [0, 3, 1, 2]), [0, 2, 3, 1])
        z = tf.transpose(tf.transpose(tf.nn.relu(x), [0, 3, 1, 2]), [0, 1, 3, 2])
        return tf.nn.relu(y), z

    graph = answers(build, FIX, "cancel_transposes")
    assert ops(graph) == ["Relu", "Relu", "Transpose"]


def test_transposes_1_both_names_are_public():
    """The input under another name."""
    declines(lambda x: tf.transpose(x, [0, 1, 2, 3]), FIX, '"out" is a public name of "x"')


def test_transposes_2_second_reader():
    """Someone wants what lies between."""
    build = lambda x: ((y := tf.transpose(x, [0, 3, 1, 2])), tf.transpose(y, [0, 1, 3, 2]))  # noqa: E731
    declines(build, FIX, "is a graph output")


def test_shapes_1_open_sizes():
    """The batch size is known only when fed."""
    declines(lambda x: tf.cast(tf.shape(x), tf.float32), FIX, "has open sizes", shape=OPEN)
    declines(lambda x: x * tf.cast(tf.shape(x)[0], tf.float32), FIX, "size 0 of", shape=OPEN)


def test_shapes_2_outputs():
    """An output's name does not move to a constant."""
    declines(lambda x: (tf.nn.relu(x), tf.raw_ops.Shape(input=x)), FIX, '"out1" is a graph output')


def test_reshapes_1_two_open_sizes():
    """Height and batch are open: minus one can stand for one of them only."""

    def build(x):
        shape = tf.shape(x)
        return tf.reshape(x, tf.stack([shape[0], shape[1], 24]))

    declines(build, FIX, "more than one size", shape=(None, None, 6, 4))


def test_reductions_1_another_shape():
    """[N, 4] as [N, 4, 1, 1] is not what keep_dims gives."""
    declines(
        lambda x: tf.reshape(tf.reduce_mean(x, [1, 2]), [-1, 4, 1, 1]), FIX, "the reduction would keep", shape=OPEN
    )


def test_reductions_2_second_reader():
    """Both shapes are wanted."""
    build = lambda x: ((y := tf.reduce_mean(x, [1, 2])), tf.reshape(y, [-1, 1, 1, 4]))  # noqa: E731
    declines(build, FIX, "is a graph output", shape=OPEN)


# ---- fold-padding-into-conv


def padded(before, after, size=6, stride=2, kernel=3, depthwise=False, padding="VALID", dilation=1):
    def build(x):
        y = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
        if depthwise:
            return tf.raw_ops.DepthwiseConv2dNative(
                input=y, filter=numbers(kernel, kernel, 4, 2), strides=[1, stride, stride, 1], padding=padding
            )
        return conv(y, numbers(kernel, kernel, 4, 8), stride, padding, dilations=[1, dilation, dilation, 1])

    return build


@pytest.mark.parametrize(
    "build",
    [padded(0, 1), padded(0, 1, depthwise=True), padded(1, 1, stride=1), padded(2, 2, stride=1, dilation=2)],
    ids=["stride 2", "depthwise", "stride 1", "dilated"],
)
def test_zero_padding_that_is_same(build, request):
    """The Pad goes, the numbers stay to the bit."""
    graph = answers(build, PADDING, f"fold_padding_{request.node.callspec.id.replace(' ', '_')}", shape=OPEN)
    assert "Pad" not in ops(graph)
    feed, before = numbers(2, 6, 6, 4, seed=7), make(build, OPEN)
    np.testing.assert_array_equal(
        run(portable_graph_def(graph), feed, ["out"])[0], run(portable_graph_def(before), feed, ["out"])[0]
    )


@pytest.mark.parametrize("kernel", [2, 3])
def test_it_fires_exactly_where_the_bits_are_the_same(kernel):
    """Sizes, strides and paddings up to 2: it fires where SAME gives the same bits, and nowhere else."""
    for size, stride, before, after in itertools.product((6, 7), (1, 2), range(3), range(3)):
        if size + before + after < kernel:
            continue
        build = padded(before, after, stride=stride, kernel=kernel)
        fired = apply(make(build, (1, size, size, 4)), *PADDING)[PADDING[0]].applied
        x = tf.constant(numbers(1, size, size, 4, seed=3))
        explicit, same = build(x), conv(x, numbers(kernel, kernel, 4, 8), stride)
        equal = explicit.shape == same.shape and bool((explicit.numpy() == same.numpy()).all())
        assert fired == equal, (size, stride, before, after)


def test_padding_1_open_sizes():
    """On an odd size, SAME pads both sides."""
    declines(padded(0, 1), PADDING, "is open along axis 1", shape=(2, None, 6, 4))


def test_padding_2_same_would_pad_otherwise():
    """ResNet's (3, 3) before a 7×7 with stride 2; (1, 0); too much."""
    declines(padded(3, 3, kernel=7), PADDING, "SAME would pad 2")
    declines(padded(1, 0), PADDING, "SAME would pad 0")
    declines(padded(0, 3), PADDING, "and give 3")


def test_padding_3_along_the_channels():
    """Padded channels are input of the kernel."""
    pads = [[0, 0], [0, 1], [0, 1], [0, 2]]
    graph = make(lambda x: conv(tf.pad(x, pads), numbers(3, 3, 6, 8), 2, "VALID"))  # TensorFlow itself fails on this
    (outcome,) = apply(graph, *PADDING).values()
    assert ["is padded along batch or channels" in no.reason for no in outcome.declined] == [True]


def test_padding_4_pads_already():
    """Two paddings are not one SAME."""
    declines(padded(0, 1, padding="SAME"), PADDING, "pads already")


# ---- split-explicit-padding


def test_explicit_padding_of_depthwise_is_split():
    """At every level; the process would abort when a bias follows."""

    def build(x):
        y = tf.raw_ops.DepthwiseConv2dNative(
            input=x, filter=numbers(3, 3, 4, 1), strides=[1, 1, 1, 1], padding="EXPLICIT",
            explicit_paddings=[0, 0, 2, 1, 0, 1, 0, 0],
        )  # fmt: skip
        return tf.nn.relu(y)

    feed = numbers(2, 6, 6, 4, seed=7)
    want = run(portable_graph_def(make(build)), feed, ["out"])[0]
    for level in ("none", "canonical"):
        graph = make(build)
        optimize(graph, level)
        assert ops(graph) == ["DepthwiseConv2dNative", "Pad", "Relu"]
        np.testing.assert_array_equal(run(portable_graph_def(graph), feed, ["out"])[0], want)


# ---- pointwise-to-matmul


def biased(x, act=tf.nn.relu6, seed=1):
    kernel = numbers(1, 1, int(x.shape[-1]), 8, seed=seed)
    return act(tf.nn.bias_add(conv(x, kernel), numbers(8, seed=2)))


def test_bias_and_activation_stand_behind_the_product():
    """MatMul, BiasAdd, Relu6, then the reshape: the form that TensorFlow fuses."""
    graph = answers(biased, MATMUL, "pointwise", shape=OPEN)
    assert [n.op for n in graph.sorted() if n.op not in ("Const", "Placeholder")] == [
        "Reshape", "MatMul", "BiasAdd", "Relu6", "Reshape",
    ]  # fmt: skip


def test_two_in_a_row_have_no_reshape_between():
    """And a residual is added as a matrix."""

    def build(x):
        first = biased(x)
        return tf.nn.relu(biased(first, tf.identity, 3) + first)

    graph = answers(build, ("remove-identities", *MATMUL), "pointwise_residual", shape=OPEN)
    assert ops(graph).count("Reshape") == 2


def test_squeeze_and_excite_runs_on_matrices():
    """Mean to [N, C], swish between two products, one reshape at the end."""

    def build(x):
        mean = tf.reduce_mean(x, [1, 2], keepdims=True)
        y = tf.nn.bias_add(conv(mean, numbers(1, 1, 4, 2)), numbers(2))
        y = y * tf.sigmoid(y)
        return x * tf.sigmoid(tf.nn.bias_add(conv(y, numbers(1, 1, 2, 4)), numbers(4)))

    graph = answers(build, MATMUL, "pointwise_squeeze_excite", shape=OPEN)
    assert ops(graph).count("Reshape") == 1
    assert "Conv2D" not in ops(graph)


def test_pointwise_1_kernel_and_strides_and_groups():
    """Nothing but 1×1, every position, all channels."""
    declines(lambda x: conv(x, numbers(3, 3, 4, 8)), MATMUL, "is not 1×1")
    declines(lambda x: conv(x, stride=2), MATMUL, "or has strides")
    declines(lambda x: conv(x, numbers(1, 1, 2, 8)), MATMUL, "in groups")


def test_pointwise_2_open_sizes():
    """The reshape back needs height and width."""
    declines(conv, MATMUL, "is open", shape=(1, None, 6, 4))


def test_pointwise_3_large():
    """There the convolution is as fast."""
    declines(conv, MATMUL, "the convolution is as fast", shape=(1, 29, 28, 4))
    declines(lambda x: conv(x, numbers(1, 1, 512, 512)), MATMUL, "12845056 products", shape=(1, 7, 7, 512))


def test_pointwise_4_channels_first():
    """A reshape would not keep the channels together."""
    graph = make(lambda x: conv(x, numbers(1, 1, 6, 8), data_format="NCHW"))
    (outcome,) = apply(graph, *MATMUL).values()
    assert [no.reason for no in outcome.declined] == ["the layout is NCHW"]


def test_pointwise_5_shared_kernel():
    """It would be stored twice."""

    def build(x):
        kernel = tf.constant(numbers(1, 1, 4, 4))
        return conv(conv(x, kernel), kernel)

    declines(build, MATMUL, "has another reader")


def test_swish_1_needed_elsewhere():
    """The map itself is read by more than the swish."""

    def build(x):
        y = conv(x)
        return y * tf.sigmoid(y), tf.exp(y)

    graph = answers(build, MATMUL, "", shape=OPEN)
    assert ops(graph) == ["Exp", "MatMul", "Mul", "Reshape", "Reshape", "Sigmoid"]


def test_add_3_broadcasts():
    """A value per image is added to every position alike: the addition stays on the map."""
    graph = answers(lambda x: conv(x) + tf.reduce_mean(conv(tf.exp(x), numbers(1, 1, 4, 8)), [1, 2], keepdims=True),
                    MATMUL, "", shape=OPEN)  # fmt: skip
    assert ops(graph).count("AddV2") == 1


def test_reshapes_cancel_1_another_shape():
    """[N, 36, 4] to [N, 144] is no way back."""
    graph = make(lambda x: tf.reshape(tf.reshape(tf.nn.relu(x), [-1, 36, 4]), [-1, 144]) * 1.0, OPEN)
    (outcome,) = apply(graph, *MATMUL).values()
    assert [no.reason for no in outcome.declined] == ["[None, 144] is another shape than before"]


# ---- affine-to-depthwise


def normalized(x, act=tf.nn.relu):
    """What is left of a batch norm, negative scales among it."""
    channels = int(x.shape[-1])
    return act(x * numbers(channels, seed=3) + numbers(channels, seed=4))


@pytest.mark.parametrize("act", [tf.nn.relu, tf.nn.relu6])
def test_a_norm_before_an_activation_is_one_convolution(act):
    """DepthwiseConv2dNative, BiasAdd, Relu: the form that TensorFlow fuses."""
    golden = "affine_to_depthwise" if act is tf.nn.relu else ""
    graph = answers(lambda x: normalized(x, act), DEPTHWISE, golden, shape=(None, *WIDE[1:]))
    assert [n.op for n in graph.sorted() if n.op not in ("Const", "Placeholder")] == [
        "DepthwiseConv2dNative", "BiasAdd", "Relu" if act is tf.nn.relu else "Relu6",
    ]  # fmt: skip


def test_the_session_fuses_the_convolution_that_a_norm_became():
    """The figures of the rule hold only if one op is what runs."""
    graph = make(normalized, WIDE)
    apply(graph, *DEPTHWISE)
    with tf.Graph().as_default():
        tf.import_graph_def(portable_graph_def(graph), name="")
        seen = tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        with tf.compat.v1.Session() as session:
            session.run("out:0", {"x:0": numbers(*WIDE)}, options=options, run_metadata=seen)
    ran = {node.op for part in seen.partition_graphs for node in part.node}
    assert any("FusedDepthwise" in op for op in ran)
    assert not ran & {"Relu", "BiasAdd"}


def test_affine_to_depthwise_1_open_or_no_map():
    """Whether it pays depends on the size."""
    declines(normalized, DEPTHWISE, "is no [N, H, W, C] of known", shape=(1, None, 16, 512))
    declines(normalized, DEPTHWISE, "is no [N, H, W, C] of known", shape=(2, 131072))


def test_affine_to_depthwise_2_small():
    """There three ops are as fast."""
    declines(normalized, DEPTHWISE, "98303 numbers", shape=(1, 1, 1, 98303))


def test_affine_to_depthwise_3_not_one_number_a_channel():
    """One for the whole map, or one for each pixel."""
    declines(lambda x: tf.nn.relu(x * 2.0 + numbers(512)), DEPTHWISE, "is not one float32 for each", shape=WIDE)
    declines(lambda x: tf.nn.relu(x * numbers(16, 16, 512) + numbers(512)), DEPTHWISE, "for each of 512", shape=WIDE)


def test_affine_to_depthwise_4_read_elsewhere():
    """The sum or the product would have to be computed all the same."""

    def sum_read(x):
        y = x * numbers(512, seed=1) + numbers(512, seed=2)
        return tf.nn.relu(y), tf.exp(y)

    def product_is_output(x):
        y = x * numbers(512, seed=1)
        return tf.nn.relu(y + numbers(512, seed=2)), y

    declines(sum_read, DEPTHWISE, "has another reader", shape=WIDE)
    declines(product_is_output, DEPTHWISE, "is a graph output", shape=WIDE)


def test_affine_to_depthwise_5_rounded():
    """Preprocessing keeps its last bit."""
    declines(lambda x: tf.floor(normalized(x)), DEPTHWISE, "another last bit", shape=WIDE)
