"""Calls, branches and loops of a frozen graph, written out so that no function library and no control edge is left.

    PartitionedCall(f)  ─►  the nodes of f
    If(p, f, g)(x)      ─►  Switch(x, p) ─►:1 f ┐
                                          └►:0 g ┴► Merge
    While(c, b)(x)      ─►  Enter(x) ─► Merge ─► Switch ─►:0 Exit
                                 ▲        └► c ─► LoopCond ┘└►:1 b ─► NextIteration ─┐
                                 └───────────────────────────────────────────────────┘

TensorFlow's own lowering keeps constants inside a branch or a loop by control edges from a pivot.  Here every value
knows the `Region` in which it lives, and is carried inwards only where it is used: into a loop by
`Enter(is_constant=true)`, into a branch by `Switch`, and the latter only where the reading node has no other input
that already lives there.  Constants, and what is computed from constants alone, stay outside at the root, where later
passes can fold them.  What a loop hands on unchanged is not carried around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pbcompile.control_edges import ground
from pbcompile.errors import ModelError, Problem
from pbcompile.graph import registry
from pbcompile.variables import CHANGED_HINT, captured_arrays, changed_variables

RESOURCE = tf.resource.as_datatype_enum
READS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
LOOPS = frozenset({"While", "StatelessWhile"})
BRANCHES = frozenset({"If", "StatelessIf"})
CASES = frozenset({"Case", "StatelessCase"})
MAX_CALL_DEPTH = 64


class Region:
    """Where nodes run: the root, the inside of a loop (`frame`), or one side of a branch (`predicate`, `side`).

    Regions compare by identity; `parent` is the region around this one.
    """

    def __init__(self, parent: Region | None = None, frame: str = "", predicate: str = "", side: int = 0) -> None:
        self.parent = parent
        self.frame = frame
        self.predicate = predicate
        self.side = side
        self.parallel = 10


@dataclass(frozen=True)
class Value:
    """A tensor of the lowered graph: its name, the region in which it lives, its dtype, and whether it is constant."""

    tensor: str
    region: Region
    dtype: int
    is_constant: bool = False


@dataclass(frozen=True)
class Body:
    """What is being written out: nodes by name, the values of its arguments, and how its tensors are spelled."""

    nodes: Mapping[str, Any]
    arguments: Mapping[str, Value]
    prefix: str
    depth: int


def lower(graph_def: Any, outputs: Sequence[str]) -> Any:
    """`graph_def` without functions, control flow of version 2, and control edges, in topological order.

    outputs: names of the nodes whose values are wanted; these, and all placeholders, keep their names.  Nodes that
    no output needs are left out, checks (`Assert`, `Print`) among them.
    Raises ModelError for a call that cannot be written out.
    """
    return _Lowering(graph_def).run(outputs)


def lower_function(function: Any) -> tuple[Any, list[str], list[tuple[str, int]]]:
    """The graph of a concrete function with its variables as constants, lowered.

    Returns the GraphDef, the tensors of its arguments, and (tensor, dtype) of its results.  Only what the results
    need is looked at: what a model does on the side, as drawing random numbers for a training that does not take place,
    falls away.  Raises ModelError where the results depend on a variable that the function changes.
    """
    graph_def = function.graph.as_graph_def()
    arrays, arguments = captured_arrays(function)
    lowering = _Lowering(graph_def, arrays)
    results = lowering.results([tensor.name for tensor in function.outputs], [a.partition(":")[0] for a in arguments])
    return lowering.made, arguments, [(value.tensor, value.dtype) for value in results]


class _Lowering:
    def __init__(self, graph_def: Any, arrays: Mapping[str, Any] | None = None) -> None:
        self.source = ground(graph_def)
        self.arrays = arrays or {}
        self.changed = changed_variables(graph_def) if arrays else set()
        self.constants: dict[str, Value] = {}
        self.library = {f.signature.name: f for f in graph_def.library.function}
        self.made = tf.compat.v1.GraphDef()
        self.made.versions.CopyFrom(graph_def.versions)
        self.root = Region()
        self.taken: set[str] = {node.name for node in graph_def.node}
        self.carried: dict[tuple[str, Region], Value] = {}
        self.back_edges: list[tuple[Any, int, str]] = []

    def run(self, outputs: Sequence[str]) -> Any:
        placeholders = [node.name for node in self.source.node if node.op == "Placeholder"]
        self.results(outputs, placeholders)
        return self.made

    def results(self, tensors: Sequence[str], keep: Sequence[str]) -> list[Value]:
        """Write out what `tensors` need, and the nodes `keep`; the values of `tensors`."""
        body = Body({node.name: node for node in self.source.node}, {}, "", 0)
        done = self._evaluate(body, [*keep, *(tensor.partition(":")[0] for tensor in tensors)], self.root)
        for node, at, tensor in self.back_edges:
            node.input[at] = self._value(body, done, tensor).tensor
        return [self._value(body, done, tensor) for tensor in tensors]

    # -- one body: the graph itself, or a function

    def _evaluate(self, body: Body, wanted: Sequence[str], region: Region) -> dict[str, list[Value]]:
        """Write out the nodes of `body` that the node names `wanted` need; their output values by node name."""
        done: dict[str, list[Value]] = {}
        for name in _in_order(body, wanted):
            node = body.nodes[name]
            if node.op == "Merge":
                done[name] = self._merge(body, node, done)
                continue
            inputs = [self._value(body, done, t) for t in node.input if not t.startswith("^")]
            done[name] = self._node(body, node, inputs, region)
        return done

    def _value(self, body: Body, done: Mapping[str, list[Value]], tensor: str) -> Value:
        if tensor in body.arguments:
            return body.arguments[tensor]
        name, port = self._split(body, tensor)
        return done[name][port]

    def _split(self, body: Body, tensor: str) -> tuple[str, int]:
        """`node:1` of a graph, or `node:output:1` of a function, as node and port."""
        parts = tensor.split(":")
        if len(parts) < 3:
            return parts[0], int(parts[1]) if len(parts) == 2 else 0
        node = body.nodes[parts[0]]
        if node.op in self.library:
            names = [arg.name for arg in self.library[node.op].signature.output_arg]
            return parts[0], names.index(parts[1]) + int(parts[2])
        offset = 0
        for arg in registry.require_op_def(node.op).output_arg:
            if arg.name == parts[1]:
                break
            offset += _count(node, arg)
        return parts[0], offset + int(parts[2])

    def _call(self, name: str, arguments: Sequence[Value], region: Region, caller: str, depth: int) -> list[Value]:
        """The results of the library function `name`, its nodes written out in `region`."""
        function = self.library.get(name)
        if function is None or depth > MAX_CALL_DEPTH:
            reason = "is missing" if function is None else "calls itself"
            raise ModelError(Problem("model-unfreezable", f'the function "{name}" inside the model {reason}', "/model"))
        names = [arg.name for arg in function.signature.input_arg]
        body = Body(
            {node.name: node for node in function.node_def}, dict(zip(names, arguments, strict=True)), caller, depth
        )
        results = [function.ret[arg.name] for arg in function.signature.output_arg]
        wanted = [tensor.partition(":")[0] for tensor in results if tensor not in body.arguments]
        done = self._evaluate(body, wanted, region)
        return [self._value(body, done, tensor) for tensor in results]

    # -- one node

    def _node(self, body: Body, node: Any, inputs: list[Value], region: Region) -> list[Value]:
        name = body.prefix + "/" + node.name if body.prefix and not _is_inside(node.name, body.prefix) else node.name
        depth = body.depth + 1
        if node.op in CALLS:
            return self._call(node.attr["f"].func.name, inputs, region, name, depth)
        if node.op in self.library:
            return self._call(node.op, inputs, region, name, depth)
        if node.op in LOOPS:
            return self._loop(node, name, inputs, region, depth)
        if node.op in BRANCHES:
            sides = (node.attr["else_branch"].func.name, node.attr["then_branch"].func.name)
            return self._branch(sides, name, inputs[0], inputs[1:], region, depth)
        if node.op in CASES:
            functions = [f.name for f in node.attr["branches"].list.func]
            return self._case(functions, name, inputs[0], inputs[1:], region, depth)
        if node.op == "Placeholder" and not body.prefix and node.name in self.arrays:
            if node.attr["dtype"].type == RESOURCE:
                return [Value(node.name, self.root, RESOURCE, is_constant=True)]
            return [self._array(f"{node.name}/captured", self.arrays[node.name])]
        if inputs and inputs[0].dtype == RESOURCE and inputs[0].tensor in self.arrays:
            if node.op == "Identity":
                return [inputs[0]]
            if node.op in READS:
                return self._read(node, name, inputs, region)
            message = f'"{name}" uses a variable in a way that no frozen graph can ({node.op})'
            raise ModelError(Problem("model-stateful", message, "/model"))
        called = [key for key, value in node.attr.items() if value.WhichOneof("value") == "func"]
        if called:
            message = f'"{node.name}" is a {node.op}, which calls a function while it runs'
            raise ModelError(Problem("model-unfreezable", message, "/model"))
        return self._copy(node, name, inputs, region, keep_name=not body.prefix)

    def _array(self, name: str, array: Any) -> Value:
        """An array as a constant at the root."""
        node = self._add("Const", self._unique(name), [])
        tensor = tf.make_tensor_proto(array)
        node.attr["dtype"].type = tensor.dtype
        node.attr["value"].tensor.CopyFrom(tensor)
        return Value(node.name, self.root, tensor.dtype, is_constant=True)

    def _read(self, node: Any, name: str, inputs: list[Value], region: Region) -> list[Value]:
        """What a variable holds: one constant for all who read it, named after the first."""
        variable = inputs[0].tensor
        if variable in self.changed:
            message = f'"{name}" reads a variable that the model changes while it runs, so it cannot be frozen'
            raise ModelError(Problem("model-stateful", message, "/model", CHANGED_HINT))
        if variable not in self.constants:
            self.constants[variable] = self._array(name, self.arrays[variable])
        held = self.constants[variable]
        if node.op == "ReadVariableOp":
            return [held]
        if node.op == "VariableShape":
            return [self._array(f"{name}/shape", np.asarray(self.arrays[variable].shape, np.int32))]
        gather = tf.compat.v1.NodeDef(name=node.name, op="GatherV2" if node.op == "ResourceGather" else "GatherNd")
        gather.attr["Tparams"].type = held.dtype
        gather.attr["Tindices"].type = inputs[1].dtype
        operands = [held, inputs[1]]
        if node.op == "ResourceGather":
            gather.attr["Taxis"].type = tf.int32.as_datatype_enum
            gather.attr["batch_dims"].i = node.attr["batch_dims"].i
            axis = node.attr["batch_dims"].i
            operands.append(self._constant(f"{name}/axis", axis, tf.int32.as_datatype_enum))
        return self._copy(gather, f"{name}/gather", operands, region, keep_name=False)

    def _copy(self, node: Any, name: str, inputs: list[Value], region: Region, keep_name: bool) -> list[Value]:
        """An ordinary node: at the root where it depends on constants alone, else in `region`."""
        definition = registry.require_op_def(node.op)
        is_constant = all(v.is_constant for v in inputs) and not definition.is_stateful and node.op != "Placeholder"
        here = self.root if is_constant or not inputs else region
        operands = self._operands(inputs, here)
        made = self._add(node.op, name if keep_name else self._unique(name), operands)
        for key, value in node.attr.items():
            if not key.startswith("_"):
                made.attr[key].CopyFrom(value)
        dtypes = registry.output_dtypes(node.op, dict(made.attr))
        return [
            Value(f"{made.name}:{port}" if port else made.name, here, tf.as_dtype(dtype).as_datatype_enum, is_constant)
            for port, dtype in enumerate(dtypes)
        ]

    def _merge(self, body: Body, node: Any, done: Mapping[str, list[Value]]) -> list[Value]:
        """A Merge of TensorFlow 1, whose input from NextIteration is not written yet."""
        tensors = [tensor for tensor in node.input if not tensor.startswith("^")]
        made = self._add("Merge", node.name, tensors)
        made.attr["T"].CopyFrom(node.attr["T"])
        made.attr["N"].CopyFrom(node.attr["N"])
        for i, tensor in enumerate(tensors):
            if self._split(body, tensor)[0] in done:
                made.input[i] = self._value(body, done, tensor).tensor
            else:
                self.back_edges.append((made, i, tensor))
        index = Value(f"{made.name}:1", self.root, tf.int32.as_datatype_enum)
        return [Value(made.name, self.root, node.attr["T"].type), index]

    def _operands(self, inputs: Sequence[Value], region: Region) -> list[str]:
        """Tensor names for a node in `region`, of which at least one is dead when the region is not taken."""
        gate = -1
        if region.predicate and not any(v.region is region for v in inputs):
            gate = next((i for i, v in enumerate(inputs) if not v.is_constant), 0)
        return [self._bring(v, region, gated=i == gate).tensor for i, v in enumerate(inputs)]

    # -- loops

    def _loop(self, node: Any, name: str, inputs: list[Value], region: Region, depth: int) -> list[Value]:
        body_name = node.attr["body"].func.name
        unchanged = self._unchanged(body_name)
        header = Region(region, frame=self._unique(f"{name}/frame"))
        header.parallel = node.attr["parallel_iterations"].i or 10
        variables: list[Value] = []
        merges: dict[int, Any] = {}
        for i, value in enumerate(inputs):
            if i in unchanged:
                variables.append(value)
                continue
            entered = self._enter(self._bring(value, region, gated=True), header, is_constant=False)
            merges[i] = self._control("Merge", f"{name}/merge_{i}", [entered.tensor, entered.tensor], value.dtype)
            variables.append(Value(merges[i].name, header, value.dtype))
        test = self._call(node.attr["cond"].func.name, variables, header, f"{name}/cond", depth)[0]
        predicate = self._add("LoopCond", self._unique(f"{name}/loop_cond"), [self._bring(test, header).tensor])
        inside = Region(header, predicate=predicate.name, side=1)
        switches: dict[int, str] = {}
        for i, merge in merges.items():
            switch = self._control("Switch", f"{name}/switch_{i}", [merge.name, predicate.name], variables[i].dtype)
            switches[i] = switch.name
            variables[i] = Value(f"{switch.name}:1", inside, variables[i].dtype)
        results = self._call(body_name, variables, inside, f"{name}/body", depth)
        exits = list(inputs)
        for i, merge in merges.items():
            value = self._bring(results[i], inside, gated=True)
            merge.input[1] = self._control("NextIteration", f"{name}/next_{i}", [value.tensor], value.dtype).name
            left = self._control("Exit", f"{name}/exit_{i}", [switches[i]], value.dtype)
            exits[i] = Value(left.name, region, value.dtype)
        return exits

    def _unchanged(self, body_name: str) -> set[int]:
        """The loop variables that the body hands on as it got them."""
        function = self.library.get(body_name)
        if function is None:
            return set()
        nodes = {node.name: node for node in function.node_def}
        found = set()
        for i, (given, result) in enumerate(
            zip(function.signature.input_arg, function.signature.output_arg, strict=True)
        ):
            tensor = function.ret[result.name]
            while tensor.partition(":")[0] in nodes and nodes[tensor.partition(":")[0]].op == "Identity":
                tensor = nodes[tensor.partition(":")[0]].input[0]
            if tensor == given.name:
                found.add(i)
        return found

    # -- branches

    def _branch(
        self, sides: tuple[str, str], name: str, test: Value, inputs: list[Value], region: Region, depth: int
    ) -> list[Value]:
        predicate = self._bring(self._as_bool(test, name, region), region, gated=True)
        results: list[list[Value]] = []
        for side, (function, word) in enumerate(zip(sides, ("else", "then"), strict=True)):
            inside = Region(region, predicate=predicate.tensor, side=side)
            values = self._call(function, inputs, inside, f"{name}/{word}", depth)
            results.append([self._bring(value, inside, gated=True) for value in values])
        merged = []
        for i, (other, then) in enumerate(zip(*results, strict=True)):
            merge = self._control("Merge", f"{name}/merge_{i}", [other.tensor, then.tensor], then.dtype)
            merged.append(Value(merge.name, region, then.dtype))
        return merged

    def _case(
        self, functions: Sequence[str], name: str, index: Value, inputs: list[Value], region: Region, depth: int
    ) -> list[Value]:
        """`Case` as branches inside branches; an index out of range takes the last function, as TensorFlow does."""
        if len(functions) == 1:
            return self._call(functions[0], inputs, region, name, depth)
        return self._chosen(functions, 0, name, index, inputs, region, depth)

    def _chosen(
        self,
        functions: Sequence[str],
        at: int,
        name: str,
        index: Value,
        inputs: list[Value],
        region: Region,
        depth: int,
    ) -> list[Value]:
        if at == len(functions) - 1:
            return self._call(functions[at], inputs, region, f"{name}/{at}", depth)
        wanted = self._constant(f"{name}/{at}/index", at, index.dtype)
        operands = self._operands([index, wanted], region)
        equal = self._control("Equal", f"{name}/{at}/equal", operands, index.dtype)
        test = Value(equal.name, region, tf.bool.as_datatype_enum)
        predicate = self._bring(test, region, gated=True)
        results = []
        for side in (0, 1):
            inside = Region(region, predicate=predicate.tensor, side=side)
            if side:
                values = self._call(functions[at], inputs, inside, f"{name}/{at}", depth)
            else:
                values = self._chosen(functions, at + 1, name, index, inputs, inside, depth)
            results.append([self._bring(value, inside, gated=True) for value in values])
        merged = []
        for i, (other, then) in enumerate(zip(*results, strict=True)):
            merge = self._control("Merge", f"{name}/{at}/merge_{i}", [other.tensor, then.tensor], then.dtype)
            merged.append(Value(merge.name, region, then.dtype))
        return merged

    def _as_bool(self, test: Value, name: str, region: Region) -> Value:
        """A branch may be taken on a number: not zero is true."""
        if test.dtype == tf.bool.as_datatype_enum:
            return test
        if test.dtype == tf.string.as_datatype_enum:
            raise ModelError(Problem("model-unfreezable", f'"{name}" branches on a string', "/model"))
        zero = self._constant(f"{name}/zero", 0, test.dtype)
        made = self._control("NotEqual", f"{name}/test", self._operands([test, zero], region), test.dtype)
        return Value(made.name, region, tf.bool.as_datatype_enum)

    # -- carrying values inwards

    def _bring(self, value: Value, region: Region, gated: bool = False) -> Value:
        """`value` as a tensor that a node in `region` may read.

        With `gated`, the tensor is dead whenever the region is not taken; else it may be alive beyond it, which is
        enough for a node that has another, gated input.
        """
        if value.region is region:
            return value
        if region.parent is None:
            raise ModelError(Problem("model-unfreezable", f'"{value.tensor}" is read outside its loop', "/model"))
        if region.predicate and not gated:
            return self._bring(value, region.parent)
        known = self.carried.get((value.tensor, region))
        if known is not None:
            return known
        if region.frame:
            carried = self._enter(self._bring(value, region.parent, gated=True), region, is_constant=True)
        else:
            outside = self._bring(value, region.parent)
            stem = value.tensor.replace(":", "_") + "/switch"
            switch = self._control("Switch", stem, [outside.tensor, region.predicate], value.dtype)
            carried = Value(f"{switch.name}:1" if region.side else switch.name, region, value.dtype)
        self.carried[value.tensor, region] = carried
        return carried

    def _enter(self, value: Value, header: Region, is_constant: bool) -> Value:
        node = self._control("Enter", value.tensor.replace(":", "_") + "/enter", [value.tensor], value.dtype)
        node.attr["frame_name"].s = header.frame.encode()
        node.attr["parallel_iterations"].i = header.parallel
        node.attr["is_constant"].b = is_constant
        return Value(node.name, header, value.dtype)

    # -- writing nodes

    def _constant(self, name: str, number: int, dtype: int) -> Value:
        node = self._add("Const", self._unique(name), [])
        node.attr["dtype"].type = dtype
        numpy_type = tf.as_dtype(dtype).as_numpy_dtype
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(number, dtype=numpy_type))
        return Value(node.name, self.root, dtype, is_constant=True)

    def _control(self, op: str, name: str, inputs: Sequence[str], dtype: int) -> Any:
        node = self._add(op, self._unique(name), inputs)
        node.attr["T"].type = dtype
        if op == "Merge":
            node.attr["N"].i = len(inputs)
        return node

    def _add(self, op: str, name: str, inputs: Sequence[str]) -> Any:
        return self.made.node.add(op=op, name=name, input=inputs)

    def _unique(self, name: str) -> str:
        candidate, number = name, 0
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate


def _in_order(body: Body, wanted: Sequence[str]) -> Iterator[str]:
    """The nodes that `wanted` needs, each after what it reads, but for a Merge that reads a NextIteration.

    Without recursion, as graphs are deep.
    """
    state: dict[str, bool] = {}
    later = list(wanted)
    for root in later:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                yield name
                continue
            if name in state:
                continue
            if name not in body.nodes:
                message = f'the graph reads "{name}", and has no such node'
                raise ModelError(Problem("model-unfreezable", message, "/model"))
            state[name] = True
            stack.append((name, True))
            for tensor in reversed(body.nodes[name].input):
                maker = tensor.partition(":")[0]
                if tensor.startswith("^") or tensor in body.arguments or maker in state:
                    continue
                if body.nodes[name].op == "Merge" and maker in body.nodes and body.nodes[maker].op == "NextIteration":
                    later.append(maker)
                else:
                    stack.append((maker, False))


def _count(node: Any, arg: Any) -> int:
    """How many tensors one declared output of an op is."""
    if arg.type_list_attr:
        return len(registry.attr_or_default(node.op, dict(node.attr), arg.type_list_attr).list.type)
    if arg.number_attr:
        return int(registry.attr_or_default(node.op, dict(node.attr), arg.number_attr).i)
    return 1


def _is_inside(name: str, prefix: str) -> bool:
    """Whether a function's node already carries its caller's name."""
    stem = prefix.rsplit("/", 1)[0] if prefix.endswith(("/cond", "/body", "/then", "/else")) else prefix
    return name.startswith(stem + "/")
