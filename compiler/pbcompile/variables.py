"""The variables that a concrete function captures: what they hold, and which of them it changes while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

CHANGES = (
    "Assign",
    "ResourceScatter",
    "ResourceApply",
    "ResourceSparseApply",
    "StatefulRandom",
    "RngSkip",
    "RngReadAndSkip",
)
"""Beginnings of the names of ops that change a variable."""

CHANGED_HINT = (
    "where this is a seed, the signature answers at random: Keras 3's model.export leaves RandomFlip and its like on, "
    "and only layers under Keras's own names can be told and cut out; compile the .keras file instead"
)


def captured_arrays(function: Any) -> tuple[dict[str, Any], list[str]]:
    """What the placeholders of a concrete function's captures stand for: arrays by node name, and the arguments' names.

    Variables give their value, captured tensors theirs.  Tables and other resources are left out.
    """
    captured = list(function.captured_inputs)
    count = len(function.inputs) - len(captured)
    handles = {id(variable.handle): variable for variable in function.variables}
    found: dict[str, Any] = {}
    for placeholder, outside in zip(function.inputs[count:], captured, strict=True):
        name = placeholder.op.name
        if id(outside) in handles:
            found[name] = handles[id(outside)].numpy()
        elif outside.dtype not in (tf.resource, tf.variant) and hasattr(outside, "numpy"):
            found[name] = outside.numpy()
    return found, [tensor.name for tensor in function.inputs[:count]]


def changed_variables(graph_def: Any) -> set[str]:
    """The placeholders of resources that any op in the graph, or in a function it calls, may change."""
    library = {function.signature.name: function for function in graph_def.library.function}
    changed: set[str] = set()

    def walk(nodes: Sequence[Any], known: Mapping[str, str], depth: int) -> None:
        alias = dict(known)
        for node in nodes:
            inputs = [alias.get(tensor, alias.get(tensor.partition(":")[0], "")) for tensor in node.input]
            if node.op == "Identity" and inputs and inputs[0]:
                alias[node.name] = inputs[0]
            if node.op.startswith(CHANGES):
                changed.update(name for name in inputs[:1] if name)
            if depth > 64:
                continue
            for function, given in _calls(node, inputs, library):
                names = [arg.name for arg in function.signature.input_arg]
                inner = {name: value for name, value in zip(names, given, strict=False) if value}
                if inner:
                    walk(function.node_def, inner, depth + 1)

    resources = {n.name: n.name for n in graph_def.node if n.op == "Placeholder" and n.attr["dtype"].type == 20}
    walk(graph_def.node, resources, 0)
    return changed


def _calls(node: Any, inputs: list[str], library: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    if node.op in library:
        return [(library[node.op], inputs)]
    names = [value.func.name for value in node.attr.values() if value.WhichOneof("value") == "func"]
    names += [func.name for value in node.attr.values() for func in value.list.func]
    skipped = 1 if node.op in ("If", "StatelessIf", "Case", "StatelessCase") else 0
    return [(library[name], inputs[skipped:]) for name in names if name in library]
