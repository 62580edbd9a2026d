"""Compute at compile time what does not depend on an input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from pbcompile.graph import Graph, Node, Outcome, registry
from pbcompile.graph.tensors import join_tensor, node_of
from pbcompile.passes import batch_norm
from pbcompile.passes.affine import rounded

GROWTH_LIMIT = 1 << 14
"""Elements up to which a result is stored whatever it is made of; a larger one must not exceed its inputs."""

NEVER = frozenset(
    {"Const", "Placeholder", "Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond", "NoOp", "Assert"}
)

WIDE: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "BiasAdd": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Neg": np.negative,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1.0 / np.sqrt(x),
    "Reciprocal": lambda x: 1.0 / x,
    "Inv": lambda x: 1.0 / x,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
}
"""Arithmetic that batch norms do on their constants, in float64."""

MOVES: Mapping[str, Callable[[Node, Any, Any], Any]] = {
    "Reshape": lambda node, x, shape: x.reshape(shape),
    "ExpandDims": lambda node, x, axis: np.expand_dims(x, int(axis)),
    "Transpose": lambda node, x, perm: x.transpose(perm),
}
"""Ops that only move numbers: the float64 values move along."""


def fold_constants(graph: Graph) -> Outcome:
    """Replace every op whose inputs are constants by its result.

    Before:  Const(σ²) ─► AddV2(ε) ─► Rsqrt ─► Mul(γ) ─► …
    After:   Const(γ/√(σ² + ε)) ─► …

    Everything is computed by TensorFlow itself, so that the result is what the graph would have given: resize tables
    depend on every rounding.  Only the constants of batch norms (labelled by `mark_batch_norms`) are computed in
    float64 and rounded once, which is nearer to their formula.  Declines when:
      1. the result is larger than its inputs together and than 16,384 elements (a broadcast, a fill)
      2. the op has state, is control flow, or stands in a loop or branch
      3. a result is no array, such as the list that a loop collects its results in
    """
    outcome = Outcome()
    while True:
        before = outcome.applied
        for node in graph.sorted():
            if graph.has(node) and _is_ready(graph, node) and (value := _wide_value(graph, node)) is not None:
                dtype = graph.dtype(node.name)
                if _is_applied(graph, node):
                    value = rounded(value, dtype)
                graph.redirect(node.name, graph.add_const(value, dtype, node.name))
                outcome.applied += 1
        outcome.applied += _fold_with_tensorflow(graph)
        graph.commit()
        if outcome.applied == before:
            return outcome


def _is_applied(graph: Graph, node: Node) -> bool:
    """Whether a batch norm multiplies its data by this constant.

    Then β − μ·s must be computed with the s that is stored: y = (x − μ)·s + β has the rounding of s on x − μ alone,
    while with two numbers rounded apart it would be on all of x.
    """
    return any(
        reader.op == "Mul" and any(label.startswith(batch_norm.LABEL) for label in reader.stands_for)
        for reader in graph.all_readers(node)
    )


def _is_ready(graph: Graph, node: Node) -> bool:
    if node.op in NEVER or not node.inputs or not all(graph.is_const(tensor) for tensor in node.inputs):
        return False
    if registry.require_op_def(node.op).is_stateful or node.name in graph.outputs:
        return False
    limit = max(GROWTH_LIMIT, sum(graph.const(tensor).size for tensor in node.inputs))
    dtypes = registry.output_dtypes(node.op, node.attrs)
    if not {"variant", "resource"}.isdisjoint(dtypes):
        return False
    for port in range(len(dtypes)):
        shape = graph.shape(join_tensor(node.name, port))
        if shape is not None and None not in shape and prod(size or 0 for size in shape) > limit:
            return False
    return True


def _wide_value(graph: Graph, node: Node) -> Any:
    if batch_norm.WIDE not in node.stands_for or node.op not in (*WIDE, *MOVES, "Squeeze", "Identity"):
        return None
    if not graph.dtype(node.name).startswith("float"):
        return None
    if node.op in WIDE:
        if node.op == "BiasAdd" and node.attr("data_format") != "NHWC":
            return None
        with np.errstate(all="ignore"):
            return np.asarray(WIDE[node.op](*(graph.exact(tensor) for tensor in node.inputs)), dtype=np.float64)
    given = graph.exact(node.inputs[0])
    if node.op == "Squeeze":
        return given.squeeze(tuple(node.attr("squeeze_dims")) or None)
    if node.op == "Identity":
        return given
    return MOVES[node.op](node, given, graph.const(node.inputs[1]))


def _fold_with_tensorflow(graph: Graph) -> int:
    """Evaluate the ready nodes in one session; returns how many there were."""
    ready = [node for node in graph.sorted() if _is_ready(graph, node)]
    if not ready:
        return 0
    needed = dict.fromkeys(tensor for node in ready for tensor in node.inputs)
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.producer = graph.producer
    graph_def.node.extend(graph.node_def(graph.node(tensor)) for tensor in needed)
    graph_def.node.extend(graph.node_def(node) for node in ready)
    tensors = [
        join_tensor(node.name, port)
        for node in ready
        for port in range(len(registry.output_dtypes(node.op, node.attrs)))
    ]
    for tensor, value in zip(tensors, _run(graph_def, tensors), strict=True):
        if node_of(tensor) not in graph:
            continue
        graph.redirect(tensor, graph.add_const(np.asarray(value), name=tensor.replace(":", "_")))
    return len(ready)


def _run(graph_def: Any, tensors: list[str]) -> list[Any]:
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default() as host:
        tf.graph_util.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=host, config=config) as session:
            found: list[Any] = session.run([tensor if ":" in tensor else f"{tensor}:0" for tensor in tensors])
    return found
