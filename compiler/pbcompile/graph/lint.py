"""What a legal graph is, as code: it runs before and after every pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pbcompile.errors import PassError, Problem
from pbcompile.graph import registry
from pbcompile.graph.shapes import Shape
from pbcompile.graph.tensors import is_control, split_tensor
from pbcompile.graph.view import Graph, Node

FORBIDDEN_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "PlaceholderWithDefault", "FusedBatchNormGrad"})
"""Ops without state in TensorFlow's eyes that an artifact must not hold all the same."""


@dataclass(frozen=True)
class Promise:
    """What the outputs of a graph are, before any pass: (dtype, shape) by name."""

    outputs: Mapping[str, tuple[str, Shape]]


def promise_of(graph: Graph) -> Promise:
    """The names, dtypes and shapes that no pass may change."""
    return Promise({name: (graph.dtype(name), graph.shape(name)) for name in graph.outputs})


def lint(graph: Graph, promise: Promise | None = None, after: str = "") -> None:
    """PassError with every finding: see `findings` and `broken_promises`.  `after` names the pass that just ran."""
    found = list(findings(graph))
    if promise is not None and not found:
        found += broken_promises(graph, promise)
    if found:
        where = f"after {after}: " if after else ""
        raise PassError(*(Problem("graph-invalid", where + text) for text in found))


def findings(graph: Graph) -> Iterator[str]:
    """What is wrong with the graph, one sentence each.

    Unique names and existing inputs hold by construction or fail in `Graph.sorted`, which also finds cycles.
    """
    if graph.library:
        yield f"functions are left: {', '.join(graph.library)}"
    if len(set(graph.outputs)) != len(graph.outputs):
        yield f"outputs are named twice: {', '.join(graph.outputs)}"
    for name in (*graph.inputs, *graph.outputs):
        if name not in graph:
            yield f'the public node "{name}" is gone'
    for name in graph.inputs:
        if name in graph and graph.node(name).op != "Placeholder":
            yield f'the input "{name}" is a {graph.node(name).op}'
    for node in graph.sorted():
        yield from _node_findings(graph, node)


def _node_findings(graph: Graph, node: Node) -> Iterator[str]:
    where = f'{node.op} "{node.name}"'
    definition = registry.op_def(node.op)
    if definition is None:
        yield f"{where}: TensorFlow has no such op"
        return
    if definition.is_stateful or node.op in FORBIDDEN_OPS:
        yield f"{where}: an op with state, files or Python"
    known = registry.attr_defs(node.op)
    for attr in node.attrs:
        if attr not in known:
            yield f'{where}: the op has no attribute "{attr}"'
        elif node.attrs[attr].WhichOneof("value") == "func":
            yield f'{where}: the attribute "{attr}" names a function'
    for attr, attr_def in known.items():
        if attr not in node.attrs and not attr_def.HasField("default_value"):
            yield f'{where}: the attribute "{attr}" is missing'
            return
    if node.op.startswith("FusedBatchNorm") and node.attr("is_training"):
        yield f"{where}: batch norm in training mode"
    if node.op == "DepthwiseConv2dNative" and node.attr("padding") == "EXPLICIT":
        yield f"{where}: EXPLICIT padding, which aborts TensorFlow's process when a bias follows"
    if node.op == "Placeholder" and node.name not in graph.inputs:
        yield f"{where}: a placeholder that is no input"
    for tensor in node.inputs:
        if is_control(tensor):
            yield f'{where}: a control edge from "{tensor[1:]}"'
            continue
        maker, port = split_tensor(tensor)
        made = registry.output_dtypes(graph.node(maker).op, graph.node(maker).attrs)
        if port >= len(made):
            yield f'{where}: reads port {port} of "{maker}", which has {len(made)}'


def broken_promises(graph: Graph, promise: Promise) -> list[str]:
    """Outputs whose dtype or shape is not what it was.  A size that was open may have become known."""
    graph.forget_shapes()
    found = []
    for name, (dtype, shape) in promise.outputs.items():
        if graph.dtype(name) != dtype:
            found.append(f'output "{name}" was {dtype} and is {graph.dtype(name)}')
        if not is_as_known(graph.shape(name), shape):
            found.append(f'output "{name}" had shape {shape} and has {graph.shape(name)}')
    return found


def is_as_known(now: Shape, before: Shape) -> bool:
    """Whether `now` says all that `before` said."""
    if before is None:
        return True
    if now is None or len(now) != len(before):
        return False
    return all(b is None or a == b for a, b in zip(now, before, strict=True))
