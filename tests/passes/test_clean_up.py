"""The passes that clear the way: drop-control-edges, remove-identities, fold-constants, merge-duplicates."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pbcompile.graph import Graph
from pbcompile.passes.batch_norm import mark_batch_norms
from pbcompile.passes.drop_control_edges import drop_control_edges
from tests.passes.trial import answers, apply, declines, make, numbers

IDENTITIES = ("remove-identities",)
CONSTANTS = ("fold-constants",)
DUPLICATES = ("merge-duplicates",)


def ops(graph: Graph) -> list[str]:
    return sorted(node.op for node in graph if node.op not in ("Const", "Placeholder"))


# ---- drop-control-edges


def test_control_edges_go_with_what_they_waited_for():
    """And the NoOp that held them."""

    def build(x):
        with tf.control_dependencies([tf.exp(x)]):
            return tf.nn.relu(x)

    graph = make(build)
    assert drop_control_edges(graph).applied == 1
    assert ops(graph) == ["Relu"]


# ---- remove-identities


def test_identities_go():
    """In chains, behind constants, and as dropout leaves them."""

    def build(x):
        kernel = tf.identity(tf.identity(tf.constant(numbers(1, 1, 4, 4))))
        return tf.nn.relu(tf.stop_gradient(tf.identity(tf.nn.conv2d(tf.identity(x), kernel, 1, "SAME"))))

    answers(build, IDENTITIES, "remove_identities", reduction=4)


def test_identity_lists_are_taken_apart():
    """Swish in Keras leaves IdentityN behind, with its other port unread or read."""

    def build(x):
        first, second = tf.raw_ops.IdentityN(input=[x * tf.sigmoid(x), x])
        return tf.nn.relu(first), tf.exp(second)

    assert ops(answers(build, IDENTITIES, "remove_identity_lists", oracle=False)) == ["Exp", "Mul", "Relu", "Sigmoid"]


def test_an_output_identity_hands_its_name_on():
    """`out = Identity(Relu)` becomes a Relu named `out`."""
    graph = make(lambda x: tf.identity(tf.nn.relu(x)))
    apply(graph, *IDENTITIES)
    assert (graph.node("out").op, len(graph)) == ("Relu", 2)


def test_identities_1_both_names_are_public():
    """The placeholder is the output; one tensor under two output names."""
    declines(lambda x: tf.identity(x), IDENTITIES, '"out" is a public name of "x"')
    declines(lambda x: ((y := tf.nn.relu(x)), tf.identity(y)), IDENTITIES, '"out1" is a public name of "out"')


def test_identities_1_another_port():
    """`split:1` cannot be called `out`."""
    declines(lambda x: tf.identity(tf.split(x, 2, axis=3)[1]), IDENTITIES, '"out" is a public name of "split"')


def test_identities_2_control_flow():
    """Inside a loop."""
    with tf.Graph().as_default() as host:
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        merged = tf.raw_ops.Merge(inputs=[tf.raw_ops.Switch(data=x, pred=tf.reduce_sum(x) > 0)[0]])
        out = tf.exp(tf.identity(merged[0]))
        graph = Graph.from_graph_def(host.as_graph_def(), ["x"], [out.op.name])
    (outcome,) = apply(graph, *IDENTITIES).values()
    assert ["reads control flow" in no.reason for no in outcome.declined] == [True]


# ---- fold-constants


def test_constant_chains_become_one_constant():
    """Keras 3's batch norm: Rsqrt, Mul, Mul, Sub through Reshape and Squeeze."""

    def build(x):
        variance, gamma = tf.constant(numbers(1, 4, low=0.5)), tf.constant(numbers(4, seed=1))
        inverse = tf.reshape(tf.math.rsqrt(variance + 0.001), [4]) * gamma
        return x * inverse + (numbers(4, seed=2) - numbers(4, seed=3) * inverse)

    graph = answers(build, CONSTANTS, "fold_constants")
    assert ops(graph) == ["AddV2", "Mul"]


def test_folding_rounds_once():
    """1/√(σ² + ε) · γ in float64, then to float32: the nearest float to the formula, in every channel."""
    variance, gamma = numbers(64, low=1e-3, seed=4), numbers(64, seed=5)
    graph = make(lambda x: x * (tf.math.rsqrt(tf.constant(variance) + 0.001) * gamma), (2, 64))
    mark_batch_norms(graph)
    apply(graph, *CONSTANTS)
    wide = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + np.float64(np.float32(0.001)))
    np.testing.assert_array_equal(graph.const(graph.node("out").inputs[1]), wide.astype(np.float32))


def test_other_chains_are_rounded_as_the_graph_rounds():
    """A resize table depends on every rounding: 0.1 · 3 − 0.3 is another number in float32 than in float64."""
    graph = make(lambda x: x * (tf.constant(0.1) * 3.0 - 0.3))
    tenth, three, rest = np.float32([0.1, 3.0, 0.3])
    apply(graph, *CONSTANTS)
    assert graph.const(graph.node("out").inputs[1]) == tenth * three - rest
    assert tenth * three - rest != np.float64(tenth) * 3 - np.float64(rest)


def test_integers_and_strings_are_folded_by_tensorflow():
    """Shapes, axes, casts: the result is what the graph would have given."""

    def build(x):
        size = tf.cast(tf.stack([2, 36]) * 1, tf.int32)
        label = tf.strings.join([tf.constant(["a"]), tf.constant(["b"])])
        return tf.reshape(x, tf.concat([size, [4]], 0)), tf.gather(label, tf.cast(x[0, 0, 0, :1] * 0, tf.int32))

    graph = make(build)
    apply(graph, *CONSTANTS)
    assert graph.const(graph.node("out").inputs[1]).tolist() == [2, 36, 4]
    assert graph.const(graph.node("out1").inputs[0]).tolist() == [b"ab"]


def test_several_ports_fold_together():
    """A constant split in two."""
    graph = make(lambda x: (lambda a, b: x * a + b)(*tf.split(tf.constant(numbers(8)), 2)))
    apply(graph, *CONSTANTS)
    assert ops(graph) == ["AddV2", "Mul"]
    np.testing.assert_array_equal(graph.const(graph.node("out").inputs[1]), numbers(8)[4:])


def test_constants_1_do_not_blow_up():
    """A fill and a broadcast to 18,432 elements stay what they are; small ones are stored."""

    def build(x, size):
        return x[..., None] + tf.fill([6, 6, 4, size], 2.0) + tf.broadcast_to(tf.constant(numbers(size)), [6, 4, size])

    graph = make(lambda x: build(x, 800))
    apply(graph, *CONSTANTS)
    assert {"BroadcastTo", "Fill"} <= set(ops(graph))
    graph = make(lambda x: build(x, 8))
    apply(graph, *CONSTANTS)
    assert not {"BroadcastTo", "Fill"} & set(ops(graph))


def test_constants_2_an_output_stays():
    """An output that depends on no input keeps its op, and with it its name."""
    graph = make(lambda x: (tf.nn.relu(x), tf.constant(1.0) + 2.0))
    assert apply(graph, *CONSTANTS)["fold-constants"].applied == 0


def test_the_list_of_a_loop_is_no_constant():
    """3. A TensorList of fixed size has only constant inputs, and its value is no array: folding it once crashed."""

    def build(x):
        collected = tf.raw_ops.TensorListReserve(element_shape=[4], num_elements=2, element_dtype=tf.float32)
        for index in range(2):
            collected = tf.raw_ops.TensorListSetItem(input_handle=collected, index=index, item=x[0, 0, index])
        return tf.raw_ops.TensorListStack(input_handle=collected, element_shape=[4], element_dtype=tf.float32)

    graph = make(build)
    apply(graph, *CONSTANTS)
    assert "TensorListReserve" in ops(graph)


# ---- merge-duplicates


def test_duplicates_are_computed_once():
    """Two equal convolutions with equal constants."""

    def build(x):
        one = tf.nn.conv2d(x, tf.constant(numbers(1, 1, 4, 4)), 1, "SAME")
        two = tf.nn.conv2d(x, tf.constant(numbers(1, 1, 4, 4)), 1, "SAME")
        return tf.nn.relu(one) + tf.nn.relu(two)

    graph = answers(build, DUPLICATES, "merge_duplicates", reduction=8)
    assert ops(graph) == ["AddV2", "Conv2D", "Relu"]


def test_duplicates_of_several_ports():
    """Each port to its twin."""

    def build(x):
        a, b = tf.split(x, 2, axis=3)
        c, d = tf.split(x, 2, axis=3)
        return a + d, b * c

    graph = make(build)
    apply(graph, *DUPLICATES)
    assert ops(graph) == ["AddV2", "Mul", "Split"]


def test_duplicates_differ_in_an_attribute():
    """SAME is not VALID."""

    def build(x):
        return [tf.nn.max_pool2d(x, 1, 1, padding) for padding in ("SAME", "VALID")]

    graph = make(build)
    assert apply(graph, *DUPLICATES)["merge-duplicates"].applied == 0


def test_duplicates_1_both_are_outputs():
    """Two output names on equal nodes stay two nodes; one of them may go when only it is public."""
    graph = make(lambda x: (tf.nn.relu(x), tf.nn.relu(x)))
    assert apply(graph, *DUPLICATES)["merge-duplicates"].applied == 0
    graph = make(lambda x: (tf.exp(tf.nn.relu(x)), tf.nn.relu(x)))
    assert apply(graph, *DUPLICATES)["merge-duplicates"].applied == 1
    assert graph.node("out").inputs == ("out1",)


# ---- remove-neutral-constants

NEUTRAL = ("remove-neutral-constants",)


def test_ones_and_zeros_go():
    """1 · x, x / 1, x + 0, 0 + x, x − 0, per channel too; 0 − x and 1 / x stay."""

    def build(x):
        y = (1.0 * x / np.ones(4, np.float32) + 0.0) - np.zeros((1, 1, 4), np.float32)
        return tf.nn.relu(0.0 + y), 0.0 - x, 1.0 / (x + 5.0)

    graph = answers(build, NEUTRAL, "remove_neutral_constants")
    assert ops(graph) == ["AddV2", "RealDiv", "Relu", "Sub"]


def test_neutral_1_broadcasts():
    """[2, 6, 6, 4] · ones of [3, 1, 1, 1, 1] is larger."""
    declines(lambda x: x * np.ones((3, 1, 1, 1, 1), np.float32), NEUTRAL, 'may broadcast "x"')


def test_neutral_2_both_names_are_public():
    """x · 1 as an output is the input under another name."""
    declines(lambda x: x * 1.0, NEUTRAL, '"out" is a public name of "x"')
