"""Branches, loops and calls written out: the same numbers, and no function and no control edge left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2_as_graph

from pbcompile.control_flow import lower
from pbcompile.errors import ModelError


def lowered(function: Callable[..., Any], *specs: tf.TensorSpec) -> tuple[Any, list[str], list[str]]:
    concrete = tf.function(function).get_concrete_function(*specs)
    frozen, graph_def = convert_variables_to_constants_v2_as_graph(
        concrete, lower_control_flow=False, aggressive_inlining=True
    )
    made = lower(graph_def, [tensor.op.name for tensor in frozen.outputs])
    assert not made.library.function
    assert not [node.name for node in made.node for tensor in node.input if tensor.startswith("^")]
    assert not {node.op for node in made.node} & {"While", "StatelessWhile", "If", "StatelessIf", "PartitionedCall"}
    return made, [t.name for t in frozen.inputs], [t.name for t in frozen.outputs]


def run(made: tuple[Any, list[str], list[str]], *feeds: Any) -> list[Any]:
    graph_def, inputs, outputs = made
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(outputs, dict(zip(inputs, feeds, strict=True)))


def same(function: Callable[..., Any], specs: Sequence[tf.TensorSpec], feeds: Sequence[Sequence[Any]]) -> Any:
    made = lowered(function, *specs)
    for feed in feeds:
        given = [tf.constant(value, spec.dtype) for value, spec in zip(feed, specs, strict=True)]
        wanted = tf.nest.flatten(tf.function(function)(*given))
        for got, want in zip(run(made, *feed), wanted, strict=True):
            np.testing.assert_array_equal(got, want.numpy())
    return made[0]


FLOAT = tf.TensorSpec([], tf.float32, name="x")
INT = tf.TensorSpec([], tf.int32, name="n")


def test_loop_with_branches_and_a_loop_inside() -> None:
    """Constants inside branches inside loops, a loop inside a loop, and a value that the inner loop never changes."""

    def function(x: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor, a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            a = tf.cond(
                tf.equal(i % 2, 0),
                lambda: a * 2.0 + 1.0,
                lambda: tf.cond(a > 100.0, lambda: tf.constant(5.0), lambda: a - 1.0),
            )
            _, b = tf.while_loop(lambda j, _: j < i, lambda j, b: (j + 1, b + x), (tf.constant(0), tf.constant(0.0)))
            return i + 1, a + b

        return tf.while_loop(lambda i, _: i < n, body, (tf.constant(0), x))[1]

    same(function, [FLOAT, INT], [(3.5, n) for n in (0, 1, 2, 5, 9, -1)])


def test_a_loop_that_runs_no_time_gives_its_initial_values() -> None:
    def function(n: tf.Tensor) -> list[tf.Tensor]:
        return tf.while_loop(
            lambda i, *_: i < n,
            lambda i, a, b: (i + 1, tf.constant([9.0]), a),
            (0, tf.constant([1.0]), tf.constant([2.0])),
        )

    same(function, [INT], [(0,), (1,), (4,)])


def test_branch_whose_sides_are_constants_or_pass_a_value_through() -> None:
    def function(x: tf.Tensor, n: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tf.cond(n > 0, lambda: (tf.constant(1.0), x, x * x), lambda: (tf.constant(2.0), -x, x))

    same(function, [FLOAT, INT], [(3.0, 1), (3.0, 0)])


def test_the_side_not_taken_does_not_run() -> None:
    """An op that fails there would stop the whole run."""

    def function(s: tf.Tensor) -> tf.Tensor:
        is_jpeg = tf.equal(tf.strings.substr(s, 0, 2), b"\xff\xd8")
        return tf.cond(is_jpeg, lambda: tf.shape(tf.io.decode_jpeg(s, channels=3)), lambda: tf.constant([0, 0, 0]))

    made = lowered(function, tf.TensorSpec([], tf.string, name="s"))
    jpeg = tf.io.encode_jpeg(np.zeros((4, 6, 3), np.uint8)).numpy()
    assert run(made, jpeg)[0].tolist() == [4, 6, 3]
    assert run(made, b"no image")[0].tolist() == [0, 0, 0]


def test_case_takes_the_last_function_for_an_index_out_of_range() -> None:
    def function(x: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
        return tf.switch_case(n, [lambda: x, lambda: tf.constant(7.0), lambda: x * x])

    same(function, [FLOAT, INT], [(3.0, n) for n in (-1, 0, 1, 2, 3)])


def test_map_fn_over_a_vector_of_files_of_any_length() -> None:
    """How a batch of JPEG strings of different sizes is decoded; also with no file at all."""

    def function(files: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda s: tf.image.resize(tf.io.decode_jpeg(s, channels=3), (8, 8)),
            files,
            fn_output_signature=tf.TensorSpec((8, 8, 3), tf.float32),
        )

    random = np.random.default_rng(0)
    files = [tf.io.encode_jpeg(random.integers(0, 255, (9 + k, 20, 3), np.uint8)).numpy() for k in range(4)]
    vector = tf.TensorSpec([None], tf.string, name="files")
    made = same(function, [vector], [(np.array(files, object),), (np.array(files[:1], object),)])
    assert not [node.name for node in made.node if node.op.startswith("TensorArray")], "stateful arrays"
    assert run((made, ["files:0"], ["Identity:0"]), np.array([], object))[0].shape == (0, 8, 8, 3)


def test_grouped_convolution_leaves_no_xla_call() -> None:
    """Keras compiles it by XLA, which freezing leaves as a StatefulPartitionedCall (facts 5)."""
    compiled = tf.function(lambda x: tf.nn.conv2d(x, tf.ones([3, 3, 2, 4]), 1, "SAME"), jit_compile=True)
    image = tf.TensorSpec([1, 5, 5, 4], tf.float32, name="x")
    made = lowered(lambda x: compiled(x) + 1.0, image)
    assert "Conv2D" in {node.op for node in made[0].node}


def test_constants_stay_outside_of_loops() -> None:
    """What is computed from constants alone stands at the root, where it can be folded."""

    def function(n: tf.Tensor) -> tf.Tensor:
        table = lambda: tf.reshape(tf.range(4.0) * tf.constant(2.0), [2, 2])  # noqa: E731
        return tf.while_loop(lambda i, _: i < n, lambda i, a: (i + 1, a + table()), (0, tf.zeros([2, 2])))[1]

    made = same(function, [INT], [(0,), (3,)])
    frames = {node.name for node in made.node if node.op in ("Enter", "Merge", "Switch")}
    multiplied = [node for node in made.node if node.op == "Mul"]
    assert all(not (set(node.input) & frames) for node in multiplied)


def test_outputs_and_placeholders_keep_their_names() -> None:
    def function(x: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
        return tf.identity(tf.cond(n > 0, lambda: x, lambda: -x), name="answer")

    made, inputs, _ = lowered(function, FLOAT, INT)
    names = {node.name for node in made.node}
    assert {"x", "n", "answer"} <= names
    assert inputs == ["x:0", "n:0"]


def test_the_same_function_gives_the_same_graph() -> None:
    def function(x: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda i, _: i < n, lambda i, a: (i + 1, a * x), (0, tf.constant(1.0)))[1]

    first, second = (lowered(function, FLOAT, INT)[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def classic(build: Callable[[], tf.Tensor], wanted: Sequence[str] = ("out",)) -> Any:
    """The graph that TensorFlow 1 made of a function, lowered."""
    with tf.Graph().as_default() as graph:
        tf.compat.v1.disable_control_flow_v2()
        try:
            tf.identity(build(), name="out")
        finally:
            tf.compat.v1.enable_control_flow_v2()
    made = lower(graph.as_graph_def(), list(wanted))
    assert not [node.name for node in made.node for tensor in node.input if tensor.startswith("^")]
    return made


def test_control_flow_of_tensorflow_1_loses_its_control_edges() -> None:
    """Its constants have no input; without the pivot's edge they would leave their branch, and their loop."""

    def build() -> tf.Tensor:
        n = tf.compat.v1.placeholder(tf.int32, [], name="n")

        def body(i: tf.Tensor, a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            step = tf.cond(tf.equal(i % 2, 0), lambda: tf.constant(3.0), lambda: a + tf.constant(1.0))
            return i + 1, a + step

        return tf.while_loop(lambda i, _: i < n, body, (tf.constant(0), tf.constant(0.0)))[1]

    made = classic(build)
    assert [float(run((made, ["n:0"], ["out:0"]), n)[0]) for n in (0, 1, 2, 3)] == [0.0, 3.0, 7.0, 10.0]


def test_nested_branches_of_tensorflow_1() -> None:
    def build() -> tf.Tensor:
        n = tf.compat.v1.placeholder(tf.int32, [], name="n")
        return tf.cond(
            n > 0, lambda: tf.cond(n > 5, lambda: tf.constant(2.0), lambda: tf.constant(1.0)), lambda: tf.constant(0.0)
        )

    made = classic(build)
    assert [float(run((made, ["n:0"], ["out:0"]), n)[0]) for n in (-1, 3, 9)] == [0.0, 1.0, 2.0]


def test_a_missing_function_is_an_error_with_its_name() -> None:
    graph_def = tf.compat.v1.GraphDef()
    node = graph_def.node.add(name="call", op="PartitionedCall")
    node.attr["f"].func.name = "gone"
    with pytest.raises(ModelError, match='"gone" inside the model is missing'):
        lower(graph_def, ["call"])
