"""The Graph view: names, ports, readers, redirects, names that hold, order, shapes, constants."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.errors import PassError
from pbcompile.graph import Decline, Graph, portable_graph_def, serialize
from tests.passes.trial import make, run


def graph_def_of(*lines: str, **attrs):
    """A GraphDef of float ops from `name Op input input`."""
    made = tf.compat.v1.GraphDef()
    for line in lines:
        name, op, *inputs = line.split()
        node = made.node.add(name=name, op=op, input=inputs)
        if op == "Placeholder":
            node.attr["dtype"].type = tf.float32.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(tf.TensorShape([2, 4]).as_proto())
        elif op == "Const":
            node.attr["dtype"].type = tf.float32.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.float32(1)))
        elif op == "Split":
            node.attr["T"].type = tf.float32.as_datatype_enum
            node.attr["num_split"].i = 2
        elif op != "NoOp":
            node.attr["T"].type = tf.float32.as_datatype_enum
    return made


def small(*lines: str, outputs: tuple[str, ...] = ("y",)) -> Graph:
    return Graph.from_graph_def(graph_def_of(*lines), ["x"], outputs)


def test_port_zero_has_one_spelling():
    """`a:0` and `a` are one tensor; `a:1` is another; `^a` is an edge without one."""
    graph = small("x Placeholder", "a Relu x:0", "y AddV2 a:0 a ^x")
    assert graph.node("y").inputs == ("a", "a", "^x")
    assert [(reader.name, index) for reader, index in graph.readers("a:0")] == [("y", 0), ("y", 1)]
    assert graph.reader_count(graph.node("a")) == 2
    assert graph.reader_count(graph.node("x")) == 2, "control edges count"


def test_it_owns_its_copy():
    """Changing the GraphDef afterwards does not reach the Graph."""
    source = graph_def_of("x Placeholder", "c Const", "y AddV2 x c")
    graph = Graph.from_graph_def(source, ["x"], ["y"])
    source.node[1].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.float32(9)))
    assert graph.const("c") == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("x Placeholder", "y Relu z"), '"y" reads "z", which does not exist'),
        (("x Placeholder", "a AddV2 x b", "b Relu a", "y Relu b"), "the graph has a cycle"),
        (("x Placeholder", "x Placeholder", "y Relu x"), 'two nodes are named "x"'),
        (("x Placeholder",), 'the graph has no node "y"'),
    ],
    ids=["missing input", "cycle", "double name", "no output"],
)
def test_broken_graphs_are_refused(lines, message):
    """Each with what is wrong in it."""
    with pytest.raises(PassError, match=message):
        small(*lines).sorted()


def test_order_does_not_depend_on_insertion():
    """The same graph in another node order gives the same bytes."""
    lines = ["x Placeholder", "c Const", "a Relu x", "b Neg x", "d AddV2 a b", "y AddV2 d c"]
    assert serialize(portable_graph_def(small(*lines))) == serialize(portable_graph_def(small(*reversed(lines))))


def test_long_chains_need_no_recursion():
    """Five thousand nodes in a row."""
    lines = ["x Placeholder", "n0 Relu x"] + [f"n{i} Relu n{i - 1}" for i in range(1, 5000)]
    graph = small(*lines, outputs=("n4999",))
    assert [node.name for node in graph.sorted()][-1] == "n4999"
    graph.redirect("n4998", "x")
    assert len(graph) == 2


def test_redirect_drops_what_is_dead():
    """And what only the dead node read, but nothing else."""
    graph = small("x Placeholder", "a Relu x", "b Neg a", "y Exp b")
    graph.redirect("b", graph.add("Abs", ["x"]))
    assert sorted(node.name for node in graph) == ["Abs", "x", "y"]


def test_redirect_keeps_the_public_name():
    """The replacement of an output takes over its name."""
    graph = small("x Placeholder", "a Relu x", "y Neg a")
    graph.redirect("y", graph.add("Abs", ["a"]))
    assert graph.outputs == ("y",)
    assert graph.node("y").op == "Abs"
    assert sorted(node.name for node in graph) == ["a", "x", "y"]


def test_redirect_of_an_output_that_is_read_too():
    """Readers and the public name both move."""
    graph = small("x Placeholder", "y Neg x", "z Exp y", outputs=("y", "z"))
    graph.redirect("y", graph.add("Abs", ["x"]))
    assert graph.node("z").inputs == ("y",)
    assert graph.node("y").op == "Abs"


@pytest.mark.parametrize("to", ["x", "z", "s:1"], ids=["an input", "an output", "port 1"])
def test_redirect_to_a_node_that_has_its_own_name(to):
    """Then an Identity carries the public name."""
    graph = small(
        "x Placeholder", "axis Const", "s Split axis x", "z Exp x", "r Relu s:1", "y Neg r", outputs=("y", "z")
    )
    graph.redirect("y", to)
    assert graph.outputs == ("y", "z")
    assert (graph.node("y").op, graph.node("y").inputs) == ("Identity", (to,))


def test_ports_are_redirected_apart():
    """Readers of port 1 stay where they are when port 0 moves."""
    graph = small("x Placeholder", "axis Const", "s Split axis x", "a Relu s", "b Relu s:1", "y AddV2 a b")
    graph.redirect("s", graph.add("Neg", ["x"]))
    assert graph.node("a").inputs == ("Neg",)
    assert graph.node("b").inputs == ("s:1",)


def test_rename_moves_a_collision_away():
    """The node that had the name keeps its readers under another."""
    graph = small("x Placeholder", "image Relu x", "y AddV2 image x")
    graph.rename("x", "image")
    assert graph.inputs == ("image",)
    assert graph.node("image").op == "Placeholder"
    assert graph.node("y").inputs == ("image_1", "image")
    assert graph.node("image_1").inputs == ("image",)


def test_rename_to_swap():
    """Two outputs change names."""
    graph = small("x Placeholder", "a Relu x", "b Neg x", outputs=("a", "b"))
    graph.rename("a", "b")
    assert graph.outputs == ("b", "b_1")
    graph.rename("b_1", "a")
    assert graph.outputs == ("b", "a")
    assert (graph.node("a").op, graph.node("b").op) == ("Neg", "Relu")


def test_rename_in_a_loop():
    """A node that (through a loop) reads itself."""
    graph = small("x Placeholder", "m Merge x n", "n NextIteration m", "y Exit m")
    graph.rename("m", "merge")
    graph.rename("n", "next")
    assert graph.node("merge").inputs == ("x", "next")
    assert graph.node("next").inputs == ("merge",)
    assert [node.name for node in graph.sorted()] == ["x", "merge", "y", "next"]


def test_settle_names_gives_back_free_names():
    """A replaced `a` is `a` again, not `a_1`."""
    graph = small("x Placeholder", "a Relu x", "y Neg a")
    graph.redirect("a", graph.add("Abs", ["x"], name="a"))
    assert graph.node("y").inputs == ("a_1",)
    graph.settle_names()
    assert graph.node("y").inputs == ("a",)


def test_undo_takes_back_what_was_added():
    """A declined rewrite leaves no reader behind."""
    graph = small("x Placeholder", "a Relu x", "y Neg a")
    mark = graph.mark()
    graph.add("Exp", [graph.add("Abs", ["a"])])
    graph.undo(mark)
    assert len(graph) == 3
    graph.require_sole_reader(graph.node("a"))


def test_require_sole_reader():
    """Says which node and why."""
    graph = small("x Placeholder", "a Relu x", "b Neg a", "y AddV2 a b", outputs=("y", "b"))
    with pytest.raises(Decline, match='Relu "a" has another reader'):
        graph.require_sole_reader(graph.node("a"))
    with pytest.raises(Decline, match='Neg "b" is a graph output'):
        graph.require_sole_reader(graph.node("b"))


def test_prune_keeps_inputs():
    """An input that nothing reads is still fed."""
    graph = small("x Placeholder", "c Const", "d Neg c", "y Relu c")
    assert graph.prune() == 1
    assert "x" in graph


def test_shapes_of_old_and_new_nodes():
    """New nodes are inferred from the known shapes of what they read, constants included."""
    graph = make(lambda x: tf.nn.relu(x), (None, 6, 6, 4))
    assert graph.shape("out") == (None, 6, 6, 4)
    shape = graph.add_const(np.array([-1, 36, 4], np.int32))
    assert graph.shape(graph.add("Reshape", ["x", shape])) == (None, 36, 4)
    assert graph.dtype("out") == "float32"


def test_constants_remember_what_they_were_before_rounding():
    """A float64 value is rounded once, when the last fold is done."""
    graph = small("x Placeholder", "y Relu x")
    third = graph.add_const(np.array([1 / 3]), "float32")
    assert graph.const(third).dtype == np.float32
    assert graph.exact(third)[0] == 1 / 3
    plain = graph.add_const(np.array([1 / 3], np.float32))
    assert graph.exact(plain)[0] == np.float64(np.float32(1 / 3))


@pytest.mark.parametrize("value", [np.zeros((2, 3), np.float32), np.array([224, 224]), np.float16(3), np.array(True)])
def test_constants_hold_every_number(value):
    """Equal values are not stored once: OpenCV reads [224, 224] as one number otherwise (facts 7)."""
    graph = small("x Placeholder", "y Relu x")
    name = graph.add_const(np.asarray(value))
    proto = graph.node(name).attrs["value"].tensor
    assert len(proto.tensor_content) == np.asarray(value).nbytes
    np.testing.assert_array_equal(tf.make_ndarray(proto), value)


def test_string_constants():
    """Labels are strings."""
    graph = small("x Placeholder", "y Relu x")
    name = graph.add_const(np.array([b"cat", "Füße".encode()]))
    assert graph.dtype(name) == "string"
    assert [s.decode() for s in graph.const(name)] == ["cat", "Füße"]


def test_portable_strips_defaults_and_compression():
    """An old runtime refuses `explicit_paddings`; a constant of equal values is written out; the numbers stay."""
    graph = make(lambda x: tf.nn.conv2d(x, np.full((1, 1, 4, 2), 0.5, np.float32), 1, "SAME"), (2, 3, 3, 4))
    graph_def = portable_graph_def(graph)
    conv = next(node for node in graph_def.node if node.op == "Conv2D")
    assert sorted(conv.attr) == ["T", "padding", "strides"]
    kernel = next(node for node in graph_def.node if node.op == "Const")
    assert len(kernel.attr["value"].tensor.tensor_content) == 32
    assert graph_def.versions.min_consumer == 0
    feed = np.ones((2, 3, 3, 4), np.float32)
    np.testing.assert_array_equal(run(graph_def, feed, ["out"])[0], np.full((2, 3, 3, 2), 2.0))
