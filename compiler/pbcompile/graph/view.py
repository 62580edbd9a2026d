"""`Graph`: an owned, indexed copy of a GraphDef, the only thing in the compiler that changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.core.framework import graph_pb2, node_def_pb2

from pbcompile.errors import PassError, Problem
from pbcompile.graph import registry, shapes
from pbcompile.graph.order import sorted_nodes
from pbcompile.graph.shapes import Shape
from pbcompile.graph.tensors import is_control, join_tensor, node_of, short_form, split_tensor, with_node

WIDE_LIMIT = 1 << 16
"""Constants of up to this many elements also keep their float64 value, so that folding rounds once, at the end."""


class Decline(Exception):  # noqa: N818 - it says no, it is no error
    """A rewrite does not apply, and says why: `Decline("the convolution has another reader")`.

    about: the node that stays because of this, where it is not the root of the match
    """

    def __init__(self, reason: str, about: str = "") -> None:
        super().__init__(reason)
        self.about = about


@dataclass(eq=False)
class Node:
    """One node.  Only `Graph` changes it; `inputs` are tensors in short form, `attrs` AttrValues without `_` ones.

    stands_for: what this node is a part of, by label (the batch norms that it computes, or shares in computing)
    absorbed:   what went into this node's constants, by label
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: dict[str, Any]
    stands_for: frozenset[str] = frozenset()
    absorbed: frozenset[str] = frozenset()

    def attr(self, name: str) -> Any:
        """The attribute as plain Python, or the op's default."""
        return registry.python_value(registry.attr_or_default(self.op, self.attrs, name))

    @property
    def data_inputs(self) -> tuple[str, ...]:
        """The inputs that carry tensors."""
        return tuple(tensor for tensor in self.inputs if not is_control(tensor))


class Graph:
    """Nodes by name, their readers, static shapes; deterministic in everything it gives out.

    inputs:  names of the placeholders, as fed
    outputs: names of the output nodes (port 0), in order; these names are a contract and stay on whatever
             replaces a node
    """

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.inputs: tuple[str, ...] = tuple(inputs)
        self.outputs: tuple[str, ...] = tuple(outputs)
        self.library: tuple[str, ...] = ()
        self.producer = 0
        self._nodes: dict[str, Node] = {}
        self._readers: dict[str, dict[str, int]] = {}
        self._hints: dict[str, str] = {}
        self._counters: dict[str, int] = {}
        self._shapes: dict[str, Shape] = {}
        self._wide: dict[str, np.ndarray[Any, Any]] = {}
        self._journal: list[str] = []

    # ---- in and out -------------------------------------------------------------------------------------------

    @classmethod
    def from_graph_def(cls, graph_def: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        """A copy of `graph_def`; `inputs` and `outputs` are exact node names.  PassError when one does not exist."""
        graph = cls(inputs, outputs)
        graph.library = tuple(sorted(f.signature.name for f in graph_def.library.function))
        graph.producer = graph_def.versions.producer
        for node in graph_def.node:
            if node.name in graph._nodes:
                raise PassError(Problem("graph-invalid", f'two nodes are named "{node.name}"'))
            attrs = {}
            for key in sorted(node.attr):
                if not key.startswith("_"):
                    attrs[key] = type(node.attr[key])()
                    attrs[key].CopyFrom(node.attr[key])
            graph._insert(Node(node.name, node.op, tuple(short_form(i) for i in node.input), attrs))
        for name in (*inputs, *outputs):
            if name not in graph._nodes:
                raise PassError(Problem("graph-invalid", f'the graph has no node "{name}"'))
        return graph

    def to_graph_def(self) -> Any:
        """The GraphDef, in topological order that depends only on the graph; nothing is stripped (see portable.py)."""
        graph_def = graph_pb2.GraphDef()
        graph_def.versions.producer = self.producer
        graph_def.node.extend(self.node_def(node) for node in self.sorted())
        return graph_def

    @staticmethod
    def node_def(node: Node) -> Any:
        """`node` as a NodeDef."""
        made = node_def_pb2.NodeDef(name=node.name, op=node.op, input=node.inputs)
        for key in sorted(node.attrs):
            made.attr[key].CopyFrom(node.attrs[key])
        return made

    # ---- looking ----------------------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        """Every node, in the order of insertion."""
        return iter(tuple(self._nodes.values()))

    def sorted(self) -> list[Node]:
        """Every node, inputs first, then each after what it reads."""
        return sorted_nodes(self._nodes, (*self.inputs, *self.outputs))

    def node(self, name: str) -> Node:
        """The node of that name; PassError when there is none."""
        try:
            return self._nodes[name]
        except KeyError:
            raise PassError(Problem("graph-invalid", f'the graph has no node "{name}"')) from None

    def has(self, node: Node) -> bool:
        """Whether this very node (not another of its name) is still in the graph."""
        return self._nodes.get(node.name) is node

    def producer_of(self, tensor: str) -> Node:
        """The node that makes `tensor`."""
        return self.node(node_of(tensor))

    def readers(self, tensor: str) -> list[tuple[Node, int]]:
        """Every (node, input index) that reads exactly this tensor."""
        tensor = short_form(tensor)
        return [
            (self._nodes[reader], index)
            for reader in self._readers.get(node_of(tensor), {})
            for index, given in enumerate(self._nodes[reader].inputs)
            if given == tensor
        ]

    def all_readers(self, node: Node) -> list[Node]:
        """Every node that reads any port of `node`, once."""
        return [self._nodes[reader] for reader in self._readers.get(node.name, {})]

    def reader_count(self, node: Node) -> int:
        """How many edges leave the node, control edges and all ports included."""
        return sum(self._readers.get(node.name, {}).values())

    def is_public(self, node: Node) -> bool:
        """Whether the node's name is part of the contract."""
        return node.name in self.outputs or node.name in self.inputs

    def require_sole_reader(self, node: Node, what: str = "") -> None:
        """Decline unless exactly one edge leaves the node and it is no graph output."""
        what = what or f'{node.op} "{node.name}"'
        if node.name in self.outputs:
            raise Decline(f"{what} is a graph output")
        if self.reader_count(node) != 1:
            raise Decline(f"{what} has another reader")

    def dtype(self, tensor: str) -> str:
        """The dtype name of a tensor, such as "float32"."""
        name, port = split_tensor(tensor)
        node = self.node(name)
        dtypes = registry.output_dtypes(node.op, node.attrs)
        if port >= len(dtypes):
            raise PassError(Problem("graph-invalid", f'"{node.op}" "{name}" has no output {port}'))
        return dtypes[port]

    def shape(self, tensor: str) -> Shape:
        """The static shape of a tensor; `None` where not even the rank is known."""
        tensor = short_form(tensor)
        if not self._shapes:
            self._shapes = shapes.infer_shapes((self.node_def(node) for node in self.sorted()), self.producer)
        if tensor not in self._shapes:
            self._infer_new(tensor)
        return self._shapes[tensor]

    def forget_shapes(self) -> None:
        """Infer all shapes anew when the next one is asked for."""
        self._shapes = {}

    def is_const(self, tensor: str) -> bool:
        """Whether the tensor is a constant that stands outside every loop and branch."""
        node = self._nodes.get(node_of(tensor))
        return node is not None and node.op == "Const" and not node.inputs

    def const(self, tensor: str) -> np.ndarray[Any, Any]:
        """The value of a constant, in its own dtype; read-only."""
        value: np.ndarray[Any, Any] = registry.tensor_value(self.producer_of(tensor).attrs["value"].tensor)
        return value

    def exact(self, tensor: str) -> np.ndarray[Any, Any]:
        """The value of a float constant in float64: what it was before it was rounded to its dtype, where known."""
        wide = self._wide.get(node_of(tensor))
        return wide if wide is not None else self.const(tensor).astype(np.float64)

    def weights(self, tensor: str) -> np.ndarray[Any, Any]:
        """As `exact`, but large float32 constants as they are: float64 copies of them would double the peak memory."""
        return self.const(tensor) if self._is_large_float32(tensor) else self.exact(tensor)

    def _is_large_float32(self, tensor: str) -> bool:
        return (
            self.dtype(tensor) == "float32"
            and node_of(tensor) not in self._wide
            and (self.const(tensor).size > WIDE_LIMIT)
        )

    # ---- changing ---------------------------------------------------------------------------------------------

    def add(self, op: str, inputs: Sequence[str], attrs: Mapping[str, Any] | None = None, name: str = "") -> str:
        """Add a node and return its port 0.

        attrs: plain Python values or AttrValues; type and count attributes follow from the inputs.
        name:  a hint; taken names get `_1`, `_2`, …
        """
        given = tuple(short_form(tensor) for tensor in inputs)
        made = {key: registry.make_attr(op, key, value) for key, value in (attrs or {}).items()}
        dtypes = [self.dtype(tensor) for tensor in given if not is_control(tensor)]
        node = Node(self._fresh(name or op), op, given, registry.infer_type_attrs(op, made, dtypes))
        self._insert(node)
        self._journal.append(node.name)
        return node.name

    def add_const(self, value: np.ndarray[Any, Any], dtype: str = "", name: str = "const") -> str:
        """Add a constant and return it.  A float64 `value` is rounded to `dtype` here, once, and remembered."""
        stored = value if not dtype else value.astype(_numpy_dtype(dtype))
        attrs = {"value": registry.tensor_proto(stored), "dtype": dtype or _dtype_name(stored)}
        tensor = self.add("Const", (), attrs, name)
        if dtype and value.dtype == np.float64 and dtype != "float64" and value.size <= WIDE_LIMIT:
            self._wide[tensor] = value
        return tensor

    def copy_of(self, node: Node, inputs: Sequence[str], **changed: Any) -> str:
        """Add a node like `node` with other inputs (and attributes), and return its port 0."""
        kept = {key: value for key, value in node.attrs.items() if key not in changed}
        tensor = self.add(node.op, inputs, {**kept, **changed}, self.asked_name(node))
        self.label(tensor, node.stands_for, node.absorbed)
        return tensor

    def asked_name(self, node: Node) -> str:
        """The name that was asked for when the node was added, without the `_1` that it may have got."""
        return self._hints.get(node.name, node.name)

    def label(self, tensor: str, stands_for: Iterable[str] = (), absorbed: Iterable[str] = ()) -> None:
        """Note that the node of `tensor` also stands for these labels, or has also absorbed them."""
        node = self.producer_of(tensor)
        node.stands_for |= frozenset(stands_for)
        node.absorbed |= frozenset(absorbed)

    def redirect(self, old: str, new: str) -> None:
        """Let every reader of tensor `old` read `new`, keep a public name on the replacement, drop what is dead."""
        old, new = short_form(old), short_form(new)
        if old == new:
            return
        replaced, known = self.producer_of(old), self._shapes.get(old)
        if known is not None and self._shapes.get(new) is None:
            self._shapes[new] = known
        for reader, _ in self.readers(old):
            self._set_inputs(reader, tuple(new if tensor == old else tensor for tensor in reader.inputs))
        if replaced.name in self.outputs and split_tensor(old)[1] == 0:
            self._hand_over(replaced, new)
        self._drop_dead(replaced)

    def replace_input(self, node: Node, index: int, tensor: str) -> None:
        """Let one input of `node` read another tensor."""
        before = node.inputs[index]
        given = list(node.inputs)
        given[index] = short_form(tensor)
        self._set_inputs(node, tuple(given))
        for port in range(len(registry.output_dtypes(node.op, node.attrs))):
            self._shapes.pop(join_tensor(node.name, port), None)
        self._drop_dead(self.producer_of(before))

    def drop_control_inputs(self, node: Node) -> None:
        """Remove the node's control edges."""
        self._set_inputs(node, node.data_inputs)

    def rename(self, old: str, new: str) -> None:
        """Give node `old` the name `new`; a node that has it already moves away.  Readers and public names follow."""
        if old == new:
            return
        if new in self._nodes:
            self.rename(new, self._fresh(new))
        node = self._nodes.pop(old)
        readers = self._readers.pop(old, {})
        for reader in readers:
            at = self._nodes[reader] if reader != old else node
            at.inputs = tuple(with_node(t, new) if node_of(t) == old else t for t in at.inputs)
        for producer in dict.fromkeys(node_of(t) for t in node.inputs):
            count = self._readers[producer].pop(old, None) if producer != new else readers.pop(old, None)
            target = self._readers[producer] if producer != new else readers
            if count is not None:
                target[new] = count
        node.name = new
        self._nodes[new] = node
        if readers:
            self._readers[new] = readers
        self.inputs = tuple(new if name == old else name for name in self.inputs)
        self.outputs = tuple(new if name == old else name for name in self.outputs)
        self._hints.pop(old, None)
        if old in self._wide:
            self._wide[new] = self._wide.pop(old)
        for port in range(len(registry.output_dtypes(node.op, node.attrs))):
            if (key := join_tensor(old, port)) in self._shapes:
                self._shapes[join_tensor(new, port)] = self._shapes.pop(key)

    def settle_names(self) -> None:
        """Give every node that was added under `name_1` the name it asked for, where that has become free."""
        for node in self.sorted():
            hint = self._hints.get(node.name)
            if hint and hint not in self._nodes and not self.is_public(node):
                self.rename(node.name, hint)

    def prune(self) -> int:
        """Remove what no output needs (placeholders of `inputs` stay); returns how many nodes went."""
        needed = {node.name for node in sorted_nodes(self._nodes, (*self.inputs, *self.outputs), only_needed=True)}
        dead = [name for name in self._nodes if name not in needed]
        self._remove(dead)
        return len(dead)

    # ---- trying -----------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """A point to which `undo` can go back."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Take back every node added since `mark`; nothing else may have been changed meanwhile."""
        self._remove(reversed(self._journal[mark:]))
        del self._journal[mark:]

    def require_finite(self, mark: int) -> None:
        """Decline where a constant added since `mark` has a number that its dtype does not hold: an overflow."""
        for name in self._journal[mark:]:
            if self._nodes[name].op == "Const" and "float" in self.dtype(name):
                value = self.const(name)
                # In halves: NumPy knows bfloat16, but has no isfinite for it.
                if not np.isfinite(value.astype(np.float32) if value.dtype.itemsize < 4 else value).all():
                    raise Decline(f"a folded constant would overflow {self.dtype(name)}")

    def commit(self) -> None:
        """Keep what was added; marks taken before are void."""
        self._journal.clear()

    # ---- inside -----------------------------------------------------------------------------------------------

    def _insert(self, node: Node) -> None:
        self._nodes[node.name] = node
        self._count_inputs(node, 1)

    def _count_inputs(self, node: Node, step: int) -> None:
        for tensor in node.inputs:
            readers = self._readers.setdefault(node_of(tensor), {})
            readers[node.name] = readers.get(node.name, 0) + step
            if not readers[node.name]:
                del readers[node.name]

    def _set_inputs(self, node: Node, inputs: tuple[str, ...]) -> None:
        self._count_inputs(node, -1)
        node.inputs = inputs
        self._count_inputs(node, 1)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            node = self._nodes.pop(name)
            self._count_inputs(node, -1)
            self._wide.pop(name, None)
            self._hints.pop(name, None)
            for port in range(len(registry.output_dtypes(node.op, node.attrs)) if registry.op_def(node.op) else 1):
                self._shapes.pop(join_tensor(name, port), None)

    def _drop_dead(self, node: Node) -> None:
        stack = [node]
        while stack:
            at = stack.pop()
            if self.has(at) and not self.is_public(at) and not self.reader_count(at):
                makers = dict.fromkeys(node_of(tensor) for tensor in at.inputs)
                stack += [self._nodes[name] for name in makers if name in self._nodes]
                self._remove([at.name])

    def _hand_over(self, replaced: Node, new: str) -> None:
        """Move the public name of `replaced` to `new`, through an Identity where that node's name must stay."""
        public, maker = replaced.name, self.producer_of(new)
        if split_tensor(new)[1] or self.is_public(maker) or maker.op == "Const":
            maker = self.node(self.add("Identity", [new], name=public))
        moved = self._fresh(public)
        self.outputs = tuple(maker.name if name == public else name for name in self.outputs)
        self.rename(public, moved)
        self.rename(maker.name, public)

    def _fresh(self, hint: str) -> str:
        if hint not in self._nodes:
            return hint
        base = self._hints.get(hint, hint)
        count = self._counters.get(base, 0)
        while True:
            count += 1
            name = f"{base}_{count}"
            if name not in self._nodes:
                self._counters[base] = count
                self._hints[name] = base
                return name

    def _infer_new(self, tensor: str) -> None:
        node = self.node(node_of(tensor))
        feeds: dict[str, Any] = {}
        for given in node.data_inputs:
            maker = self.producer_of(given)
            name = "in/" + given.replace(":", "/port_")
            if maker.op == "Const":
                feeds[given] = self.node_def(maker)
                feeds[given].name = name
                del feeds[given].input[:]
            else:
                feeds[given] = shapes.placeholder(name, self.dtype(given), self.shape(given))
        made = self.node_def(node)
        made.name = "node"
        del made.input[:]
        made.input.extend(feeds[given].name for given in node.data_inputs)
        for found, shape in shapes.infer_node_shapes(made, feeds).items():
            self._shapes[join_tensor(node.name, split_tensor(found)[1])] = shape
        if tensor not in self._shapes:
            raise PassError(Problem("graph-invalid", f'"{node.op}" "{node.name}" has no output "{tensor}"'))


def _numpy_dtype(dtype: str) -> Any:
    import tensorflow as tf

    return tf.as_dtype(dtype).as_numpy_dtype


def _dtype_name(value: np.ndarray[Any, Any]) -> str:
    return "string" if value.dtype.kind in "OSU" else str(value.dtype.name)
