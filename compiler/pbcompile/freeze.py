"""A traced function becomes a GraphDef: variables turn into constants, calls are inlined, names become the spec's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pbcompile.control_flow import lower_function
from pbcompile.errors import ModelError, Problem
from pbcompile.models import size as limit
from pbcompile.models.loaded import LoadedModel, ModelSource

_STATE = re.compile(r"^(Variable|VariableV2|VarHandleOp|ReadVariableOp|AssignVariableOp|AutoReloadVariable)$")
_TABLE = re.compile(r"(HashTable|LookupTable|Table(V2|V3)?$)")


def freeze(function: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """The function as a GraphDef without variables, function calls or control edges.

    function: a concrete function with one tensor argument per name in `inputs`, whose flat results are `outputs`.
    Placeholders and outputs get exactly these names; a node that has one of them already is renamed.
    Raises ModelError for what no frozen graph can hold, naming the layer.
    """
    size = sum(variable.dtype.size * variable.shape.num_elements() for variable in function.variables)
    if size > limit.MAX_BYTES:
        raise limit.too_large(size)
    graph_def, placeholders, results = lower_function(function)
    _refuse_state(graph_def)
    return _with_public_names(graph_def, placeholders, results, inputs, outputs)


def require_finite(function: Any, model: LoadedModel, source: ModelSource) -> None:
    """ModelError that names every weight with a NaN or an infinity in it, unless the spec allows them.

    function: traced from `model`; only what it reads is looked at.
    """
    if source.allow_nan:
        return
    paths = {id(weight.value): weight.path for weight in getattr(model.keep_alive, "weights", ()) if _is_keras(weight)}
    problems = []
    for variable in function.variables:
        if not variable.dtype.is_floating:
            continue
        values = variable.numpy().astype(np.float64) if variable.dtype.size < 4 else variable.numpy()
        count = values.size - np.count_nonzero(np.isfinite(values))
        if count:
            layer, _, weight = paths.get(id(variable), variable.name.partition(":")[0]).rpartition("/")
            message = f'the layer "{layer}" has {count} of {values.size} values in "{weight}" that are NaN or infinite'
            hint = 'take the weights of an earlier epoch, or say "allow_nan": true under "model"'
            problems.append(Problem("weights-not-finite", message, source.pointer, hint))
    if problems:
        raise ModelError(*problems)


def _is_keras(weight: object) -> bool:
    return hasattr(weight, "path") and hasattr(weight, "value")


def freeze_plainly(function: Any) -> tuple[Any, list[str], list[str]]:
    """The function as everybody freezes it, for comparison: a GraphDef and the nodes of its inputs and outputs.

    function: a concrete function with a flat list of results.  Raises ModelError where TensorFlow cannot.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        frozen = convert_variables_to_constants_v2(function)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(_unfreezable(str(error))) from error
    inputs, outputs = ([t.name.partition(":")[0] for t in ends] for ends in (frozen.inputs, frozen.outputs))
    return frozen.graph.as_graph_def(), inputs, outputs


def _unfreezable(text: str) -> Problem:
    return Problem("model-unfreezable", f"TensorFlow cannot freeze this model: {text.splitlines()[0][:300]}", "/model")


def _layer(name: str) -> str:
    """The part of a node's name that a person knows it by."""
    parts = [p for p in name.split("/") if p not in ("model", "StatefulPartitionedCall", "PartitionedCall")]
    return "/".join(parts[:-1] or parts)


def _refuse_state(graph_def: Any) -> None:
    """ModelError for every variable, table and random op that freezing left."""
    problems = []
    for node in graph_def.node:
        if _STATE.match(node.op):
            message = f'"{_layer(node.name)}" uses a variable while it runs ({node.op}), so it cannot be frozen'
            problems.append(Problem("model-stateful", message, "/model"))
        elif _TABLE.search(node.op):
            message = f'"{_layer(node.name)}" looks words up in a table ({node.op}), and a frozen graph holds none'
            hint = "leave the lookup out of the model and feed indices"
            problems.append(Problem("model-stateful", message, "/model", hint))
    if problems:
        unique = list(dict.fromkeys(problems))
        raise ModelError(*unique[:8])


def _with_public_names(
    graph_def: Any,
    placeholders: Sequence[str],
    results: Sequence[tuple[str, int]],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Any:
    """Rename the placeholders, add one Identity per output, and move what holds one of these names out of the way."""
    public = {*inputs, *outputs}
    renamed = {tensor.partition(":")[0]: name for tensor, name in zip(placeholders, inputs, strict=True)}
    taken = {node.name for node in graph_def.node} | public
    for node in graph_def.node:
        if node.name in public and node.name not in renamed:
            index = 1
            while f"{node.name}_{index}" in taken:
                index += 1
            renamed[node.name] = f"{node.name}_{index}"
            taken.add(renamed[node.name])

    def new_tensor(tensor: str) -> str:
        caret, body = ("^", tensor[1:]) if tensor.startswith("^") else ("", tensor)
        name, colon, port = body.partition(":")
        return f"{caret}{renamed.get(name, name)}{colon}{port}"

    for node in graph_def.node:
        node.name = renamed.get(node.name, node.name)
        node.input[:] = [new_tensor(tensor) for tensor in node.input]
    for name, (tensor, dtype) in zip(outputs, results, strict=True):
        node = graph_def.node.add(name=name, op="Identity", input=[new_tensor(tensor).removesuffix(":0")])
        node.attr["T"].type = dtype
    return graph_def
