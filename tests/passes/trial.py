"""The five questions that every pass is asked, for graphs of a few nodes.

A graph is a function of the graph under test's placeholder `x` (and `y` where asked for), written in TensorFlow ops;
what it returns becomes the outputs `out`, `out1`, ….
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pbcompile.graph import Graph, Outcome, graph_text, lint, portable_graph_def, promise_of, registry
from pbcompile.passes import LEVELS, PIPELINE

GOLDEN = Path(__file__).parent / "golden"
EPSILON = 2.0**-24
"""Half a unit in the last place of float32: the relative error of one rounding."""

Build = Callable[..., Any]


def make(build: Build, shape: Sequence[int | None] = (2, 6, 6, 4), dtype: Any = tf.float32) -> Graph:
    """The graph that `build` writes, frozen-looking: placeholder `x`, outputs `out`, `out1`, …"""
    with tf.Graph().as_default() as host:
        results = build(tf.compat.v1.placeholder(dtype, shape, name="x"))
        results = results if isinstance(results, (tuple, list)) else (results,)
        names = ["out" + (str(i) if i else "") for i in range(len(results))]
        graph = Graph.from_graph_def(host.as_graph_def(), ["x"], [tensor.op.name for tensor in results])
    for tensor, name in zip(results, names, strict=True):
        graph.rename(tensor.op.name, name)
    graph.prune()
    return graph


def numbers(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Any:
    """Float32 numbers, negative ones among them."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def run(graph_def: Any, feed: Any, outputs: Sequence[str]) -> list[Any]:
    """What a stock session gives."""
    with tf.Graph().as_default():
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session() as session:
            found: list[Any] = session.run([f"{name}:0" for name in outputs], {"x:0": feed})
            return found


def in_float64(graph: Graph, magnitude: bool = False) -> Any:
    """The graph in float64: the oracle.  `magnitude` takes the absolute value of every constant and adds where the
    graph subtracts, which bounds the sum of the absolute values that each output sums up.
    """
    made = tf.compat.v1.GraphDef()
    for node in graph.sorted():
        copy = graph.node_def(node)
        for value in copy.attr.values():
            if value.type == tf.float32.as_datatype_enum:
                value.type = tf.float64.as_datatype_enum
            if value.WhichOneof("value") == "list":  # IdentityN
                types = value.list.type
                types[:] = [tf.float64.as_datatype_enum if t == tf.float32.as_datatype_enum else t for t in types]
        if node.op == "Const" and graph.dtype(node.name) == "float32":
            wide = graph.const(node.name).astype(np.float64)
            copy.attr["value"].tensor.CopyFrom(registry.tensor_proto(np.abs(wide) if magnitude else wide))
        if node.op == "Sub" and magnitude:
            copy.op = "AddV2"
        made.node.append(copy)
    return made


def positions(*names: str) -> list[Any]:
    """The pipeline's passes of these names, in the pipeline's order."""
    found = [position for position in PIPELINE if position.name in names]
    assert len(found) == len(names), f"{names} are not all in the pipeline"
    return found


def apply(graph: Graph, *names: str) -> dict[str, Outcome]:
    """Run passes by name, with lint after each."""
    promise = promise_of(graph)
    outcomes = {}
    for position in positions(*names):
        outcomes[position.name] = position.run(graph)
        graph.commit()
        lint(graph, promise, position.name)
    return outcomes


def tolerance(graph: Graph, feed: Any, reduction: int) -> list[float]:
    """The largest error that float32 may make: (n + ops) roundings of the sum of absolute values.

    n is the longest sum (`reduction`); each op after it rounds once more, and so does each folded constant.
    """
    ops = sum(node.op not in ("Const", "Placeholder") for node in graph)
    sums = run(in_float64(graph, magnitude=True), np.abs(feed).astype(np.float64), graph.outputs)
    return [float(EPSILON * (reduction + 2 * ops) * np.abs(total).max()) for total in sums]


def answers(
    build: Build,
    passes: Sequence[str],
    golden: str,
    shape: Sequence[int | None] = (2, 6, 6, 4),
    reduction: int = 64,
    low: float = -2.0,
    oracle: bool = True,
) -> Graph:
    """Ask a graph on which the last of `passes` fires questions 1, 3, 4 and 5; returns the graph after the passes.

    Without a name for the golden text, question 1 is left to the caller.
    """
    graph = make(build, shape)
    feed = numbers(*(2 if size is None else size for size in shape), seed=7, low=low)
    before_text, before = graph_text(graph), portable_graph_def(graph)
    if oracle:
        expected = run(in_float64(graph), feed.astype(np.float64), graph.outputs)
        allowed = tolerance(graph, feed, reduction)
    else:  # no float64 kernel: both sides err, each by at most a rounding for every term of the longest sum
        expected = run(before, feed, graph.outputs)
        allowed = [2 * EPSILON * reduction * float(np.abs(value).max()) for value in expected]
    apply(graph, *passes)
    graph.settle_names()
    graph.prune()
    after_text = graph_text(graph)

    for got, want, limit in zip(run(portable_graph_def(graph), feed, graph.outputs), expected, allowed, strict=True):
        assert np.abs(got - want).max() <= limit, "question 3: the numbers changed"

    again = apply(graph, *passes)
    assert not sum(outcome.applied for outcome in again.values()), "question 4: a second run changes something"
    graph.settle_names()
    assert graph_text(graph) == after_text, "question 4: a second run changes something"

    without = make(build, shape)
    apply(without, *passes[:-1])
    without.settle_names()
    without.prune()
    assert graph_text(without) != after_text, "question 5: the pass makes no difference"

    if golden:
        compare_golden(golden, f"before\n{before_text}\nafter {' '.join(passes)}\n{after_text}")
    return graph


def declines(
    build: Build, passes: Sequence[str], reason: str, shape: Sequence[int | None] = (2, 6, 6, 4), fires: int = 0
) -> Graph:
    """Question 2: on this graph the last of `passes` declines for this reason, and the numbers stay."""
    graph = make(build, shape)
    feed = numbers(*(2 if size is None else size for size in shape), seed=7)
    expected = run(portable_graph_def(graph), feed, graph.outputs)
    apply(graph, *passes[:-1])
    last = apply(graph, passes[-1])[passes[-1]]
    assert last.applied == fires
    assert any(reason in no.reason for no in last.declined), [no.reason for no in last.declined]
    for got, want in zip(run(portable_graph_def(graph), feed, graph.outputs), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * EPSILON * max(1.0, float(np.abs(want).max())))
    return graph


def compare_golden(name: str, text: str) -> None:
    """Compare with tests/passes/golden/NAME.txt; UPDATE_GOLDEN=1 writes it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs; UPDATE_GOLDEN=1 writes it anew: read the difference first"


def level_passes(level: str) -> list[str]:
    """Every pass that `level` runs."""
    return [p.name for p in PIPELINE if LEVELS.index(p.level) <= LEVELS.index(level)]
