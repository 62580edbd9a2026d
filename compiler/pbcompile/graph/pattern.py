"""Patterns over a graph as data: `Op("Mul", Any("x"), Const("s"), commutative=True)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any as AnyType

import numpy as np

from pbcompile.errors import PassError, Problem
from pbcompile.graph.tensors import split_tensor
from pbcompile.graph.view import Graph, Node


@dataclass
class Match:
    """One place in the graph where a pattern fits: `root` is the node it was tried at, the rest goes by bound names."""

    graph: Graph
    root: Node
    tensors: dict[str, str] = field(default_factory=dict)

    def tensor(self, name: str) -> str:
        """The tensor bound to `name`."""
        try:
            return self.tensors[name]
        except KeyError:
            raise PassError(Problem("pass-bug", f'the pattern binds no "{name}"')) from None

    def node(self, name: str) -> Node:
        """The node that makes the tensor bound to `name`."""
        return self.graph.producer_of(self.tensor(name))

    def const(self, name: str) -> np.ndarray[AnyType, AnyType]:
        """The value of the constant bound to `name`, in its own dtype."""
        return self.graph.const(self.tensor(name))

    def exact(self, name: str) -> np.ndarray[AnyType, AnyType]:
        """The value of the float constant bound to `name`, in float64."""
        return self.graph.exact(self.tensor(name))


@dataclass(frozen=True)
class Any:
    """Any tensor; the same name twice means the same tensor."""

    bind: str = ""

    def fits(self, graph: Graph, tensor: str, bound: dict[str, str]) -> Iterator[dict[str, str]]:
        """Every way to read `tensor` as this pattern, as the bindings that result."""
        yield from _bind(self.bind, tensor, bound)


@dataclass(frozen=True)
class Const:
    """A constant outside of every loop and branch."""

    bind: str = ""

    def fits(self, graph: Graph, tensor: str, bound: dict[str, str]) -> Iterator[dict[str, str]]:
        """Every way to read `tensor` as this pattern."""
        if graph.is_const(tensor):
            yield from _bind(self.bind, tensor, bound)


@dataclass(frozen=True)
class Op:
    """Port 0 of a node of one of the ops `a|b|c`, whose first inputs fit `inputs`.

    commutative: the first two inputs may stand in either order.
    bind:        the name under which the rule finds this node.
    """

    ops: str
    inputs: tuple[Any | Const | Op, ...] = ()
    commutative: bool = False
    bind: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The ops, one by one."""
        return tuple(self.ops.split("|"))

    def fits(self, graph: Graph, tensor: str, bound: dict[str, str]) -> Iterator[dict[str, str]]:
        """Every way to read `tensor` as this pattern."""
        name, port = split_tensor(tensor)
        node = graph.node(name)
        if port or node.op not in self.names or len(node.data_inputs) < len(self.inputs):
            return
        given = node.data_inputs[: len(self.inputs)]
        orders = [given, (given[1], given[0], *given[2:])] if self.commutative else [given]
        for order in orders:
            for found in _bind(self.bind, tensor, bound):
                yield from self._fit_inputs(graph, order, 0, found)

    def _fit_inputs(
        self, graph: Graph, given: tuple[str, ...], at: int, bound: dict[str, str]
    ) -> Iterator[dict[str, str]]:
        if at == len(self.inputs):
            yield bound
            return
        for found in self.inputs[at].fits(graph, given[at], bound):
            yield from self._fit_inputs(graph, given, at + 1, found)


def op(ops: str, *inputs: Any | Const | Op, commutative: bool = False, bind: str = "") -> Op:
    """`Op` with its inputs as arguments."""
    return Op(ops, inputs, commutative, bind)


def match_at(pattern: Op, graph: Graph, node: Node) -> Iterator[Match]:
    """Every match of `pattern` whose root is `node`."""
    for bound in pattern.fits(graph, node.name, {}):
        yield Match(graph, node, bound)


def _bind(name: str, tensor: str, bound: dict[str, str]) -> Iterator[dict[str, str]]:
    if not name:
        yield bound
    elif bound.get(name, tensor) == tensor:
        yield {**bound, name: tensor}
