"""What lint refuses, one graph each."""

from __future__ import annotations

import pytest
import tensorflow as tf

from pbcompile.errors import PassError
from pbcompile.graph import Graph, lint, promise_of
from tests.passes.trial import make, numbers


def refused(graph: Graph, message: str) -> None:
    with pytest.raises(PassError, match=message):
        lint(graph)


def test_a_clean_graph_passes():
    """And keeps its promise."""
    graph = make(tf.nn.relu)
    lint(graph, promise_of(graph))


def test_training_batch_norm():
    """Statistics of the batch are no inference."""

    def build(x):
        one = numbers(4, seed=1)
        return tf.raw_ops.FusedBatchNormV3(x=x, scale=one, offset=one, mean=[], variance=[], is_training=True)[0]

    refused(make(build), "batch norm in training mode")


def test_explicit_padding_on_depthwise():
    """It aborts the process (facts 11)."""

    def build(x):
        return tf.raw_ops.DepthwiseConv2dNative(
            input=x, filter=numbers(3, 3, 4, 1), strides=[1, 1, 1, 1], padding="EXPLICIT",
            explicit_paddings=[0, 0, 1, 1, 1, 1, 0, 0],
        )  # fmt: skip

    refused(make(build), "EXPLICIT padding")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: x + tf.random.uniform([4]), "RandomUniform .*an op with state"),
        (lambda x: tf.py_function(lambda a: a, [x], tf.float32), "EagerPyFunc"),
        (lambda x: tf.compat.v1.placeholder_with_default(x, [2, 6, 6, 4]), "PlaceholderWithDefault"),
        (lambda x: x + tf.compat.v1.placeholder(tf.float32, name="z"), "a placeholder that is no input"),
    ],
    ids=["random", "python", "default", "second placeholder"],
)
def test_ops_that_no_artifact_may_hold(build, message):
    """State, Python, and inputs that nobody feeds."""
    refused(make(build), message)


def test_functions():
    """A library is refused by name."""
    with tf.Graph().as_default() as host:
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        y = tf.function(lambda a: a + 1, autograph=False).get_concrete_function(x)(x)
        source = host.as_graph_def()
    refused(Graph.from_graph_def(source, ["x"], [y.op.name]), "functions are left")


def test_control_edges():
    """No artifact has any."""

    def build(x):
        with tf.control_dependencies([tf.nn.relu(x, name="first")]):
            return tf.identity(x)

    refused(make(build), 'a control edge from "first"')


def test_attributes_are_known_and_there():
    """An attribute of another op, and one that is missing."""
    graph = make(tf.nn.relu)
    graph.node("out").attrs["padding"] = graph.node("out").attrs["T"]
    refused(graph, 'the op has no attribute "padding"')
    graph = make(lambda x: tf.nn.conv2d(x, numbers(1, 1, 4, 2), 1, "SAME"))
    del graph.node("out").attrs["padding"]
    refused(graph, 'the attribute "padding" is missing')


def test_a_port_that_does_not_exist():
    """Relu has one output."""
    graph = make(lambda x: tf.nn.relu(tf.nn.relu(x, name="a")))
    graph.replace_input(graph.node("out"), 0, "a:1")
    refused(graph, 'reads port 1 of "a", which has 1')


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda g: g.add("Cast", ["x"], {"DstT": "float64"}), "was float32 and is float64"),
        (lambda g: g.add("Mean", ["x", g.add_const(numbers(1).astype("int32") * 0)]), r"had shape \(2, 6, 6, 4\)"),
    ],
    ids=["dtype", "shape"],
)
def test_promises(other, message):
    """An output's dtype and shape stay what they were."""
    graph = make(tf.nn.relu)
    promise = promise_of(graph)
    graph.redirect("out", other(graph))
    with pytest.raises(PassError, match=message):
        lint(graph, promise, "a-pass")


def test_a_loop_is_legal():
    """Recurrent models arrive as loops."""
    with tf.Graph().as_default() as host:
        tf.compat.v1.disable_control_flow_v2()
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        y = tf.compat.v1.while_loop(lambda a: tf.reduce_sum(a) < 9, lambda a: a + a, [x])
        tf.compat.v1.enable_control_flow_v2()
        graph = Graph.from_graph_def(host.as_graph_def(), ["x"], [y.op.name])
    assert "NextIteration" in {node.op for node in graph}
    found = [node.name for node in graph.sorted() if any(t.startswith("^") for t in node.inputs)]
    for name in found:  # constants that the test's own loop anchors
        graph.drop_control_inputs(graph.node(name))
    lint(graph)
