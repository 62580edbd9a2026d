"""Control edges that TensorFlow 1 control flow needs, turned into data.

Inside `tf.cond` and `tf.while_loop` of TensorFlow 1 a constant has no input, so nothing but a control edge from a
pivot keeps it inside its branch and its loop:

    Before:  Switch(p, p):1 ─► pivot ┈► Const ─► y
    After:   Const ─► Switch(·, p):1 ─► y           (and Enter(is_constant=true) in front of it inside a loop)

`_SwitchN`, which newer runtimes make of `Case`, becomes a chain of `Switch`, which every runtime knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pbcompile.graph import registry

CLASSIC = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "_SwitchN"})


def ground(graph_def: Any) -> Any:
    """A copy of `graph_def` whose input-less nodes are held in their branch and loop by data instead of control edges.

    Only nodes of the graph itself are looked at; functions in its library never have such edges.
    """
    if not any(node.op in CLASSIC for node in graph_def.node):
        return graph_def
    made = tf.compat.v1.GraphDef()
    made.CopyFrom(graph_def)
    _Grounding(made).run()
    return made


class _Grounding:
    def __init__(self, graph_def: Any) -> None:
        self.graph_def = graph_def
        self.nodes: dict[str, Any] = {node.name: node for node in graph_def.node}
        self.taken = set(self.nodes)
        self.frames: dict[str, tuple[str, ...]] = {}
        enters = [node for node in graph_def.node if node.op == "Enter"]
        self.parallel = {node.attr["frame_name"].s: node.attr["parallel_iterations"].i for node in enters}

    def run(self) -> None:
        self._expand_switches()
        originals = list(self.graph_def.node)
        bare = [node for node in originals if node.input and all(i.startswith("^") for i in node.input)]
        pivots = {node.name: self._pivot(node) for node in bare}
        places = {name: (self._frames(pivot), self._anchor(pivot)) for name, pivot in pivots.items()}
        held = {}
        for node in bare:
            del node.input[:]
            held[node.name] = self._held(node, *places[node.name])
        for node in originals:
            for i, tensor in enumerate(node.input):
                node.input[i] = held.get(tensor.removesuffix(":0"), tensor)

    def _pivot(self, node: Any) -> str:
        """Of several nodes that `node` waits for, the one deepest inside."""
        names: list[str] = [tensor[1:] for tensor in node.input]
        return max(names, key=lambda name: (len(self._frames(name)), self._anchor(name) is not None))

    def _dtype(self, node: Any) -> int:
        dtypes = registry.output_dtypes(node.op, dict(node.attr))
        return int(tf.as_dtype(dtypes[0]).as_datatype_enum) if dtypes else 0

    def _held(self, source: Any, frames: Sequence[str], anchor: tuple[str, int] | None) -> str:
        """The tensor of `source`, which lives at the root, as one that lives inside `frames` and behind `anchor`."""
        tensor, dtype = str(source.name), self._dtype(source)
        if not dtype:
            return tensor
        for frame in frames:
            node = self._add("Enter", f"{source.name}/held", [tensor], dtype)
            node.attr["frame_name"].s = frame.encode()
            node.attr["is_constant"].b = True
            node.attr["parallel_iterations"].i = self.parallel.get(frame.encode(), 10)
            tensor = str(node.name)
        if anchor is None:
            return tensor
        predicate, port = anchor
        node = self._add("Switch", f"{source.name}/held", [tensor, predicate], dtype)
        return f"{node.name}:1" if port else str(node.name)

    def _anchor(self, name: str) -> tuple[str, int] | None:
        """The predicate and port of the Switch behind `name`; None where it runs in every case."""
        port = 0
        for _ in range(len(self.nodes)):
            node = self.nodes.get(name)
            if node is None:
                return None
            if node.op == "Switch":
                return str(node.input[1]), port
            data = [i for i in node.input if not i.startswith("^")]
            if node.op in ("Merge", "Enter", "Exit", "LoopCond", "Placeholder") or not node.input:
                return None
            name, _, number = (data[0] if data else node.input[0][1:]).partition(":")
            port = int(number or 0)
        return None

    def _frames(self, name: str) -> tuple[str, ...]:
        """The loops around a node, outermost first."""
        path: list[str] = []
        seen: set[str] = set()
        while name not in self.frames and name in self.nodes and name not in seen:
            seen.add(name)
            path.append(name)
            node = self.nodes[name]
            if not node.input:
                break
            name = node.input[0].removeprefix("^").partition(":")[0]
        known = self.frames.get(name, ())
        for step in reversed(path):
            node = self.nodes[step]
            if node.op == "Enter":
                known = (*known, node.attr["frame_name"].s.decode())
            elif node.op == "Exit":
                known = known[:-1]
            self.frames[step] = known
        return known

    def _expand_switches(self) -> None:
        moved: dict[str, str] = {}
        for node in [n for n in self.graph_def.node if n.op == "_SwitchN"]:
            dtype = node.attr["T"].type
            data, index = node.input[0], node.input[1]
            last = node.attr["num_outs"].i - 1
            for port in range(last):
                number = self._add("Const", f"{node.name}/index", [], 0)
                number.attr["dtype"].type = tf.int32.as_datatype_enum
                number.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(port, dtype=tf.int32))
                equal = self._add("Equal", f"{node.name}/equal", [index, number.name], tf.int32.as_datatype_enum)
                switch = self._add("Switch", f"{node.name}/switch", [data, equal.name], dtype)
                moved[f"{node.name}:{port}"] = f"{switch.name}:1"
                data = switch.name
            moved[f"{node.name}:{last}"] = data
        for node in self.graph_def.node:
            for i, tensor in enumerate(node.input):
                full = tensor if ":" in tensor else f"{tensor}:0"
                if full in moved:
                    node.input[i] = moved[full]

    def _add(self, op: str, name: str, inputs: list[str], dtype: int) -> Any:
        candidate, number = name, 0
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        node = self.graph_def.node.add(op=op, name=candidate, input=inputs)
        if dtype:
            node.attr["T"].type = dtype
        self.nodes[candidate] = node
        return node
