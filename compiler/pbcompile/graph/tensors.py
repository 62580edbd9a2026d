"""Tensor names: `node` is port 0 of a node, `node:1` its port 1, `^node` a control edge.

Every name is kept in this shortest form.
"""

from __future__ import annotations


def split_tensor(tensor: str) -> tuple[str, int]:
    """The node and the port of a tensor: `a` → (a, 0), `a:0` → (a, 0), `a:1` → (a, 1)."""
    node, colon, port = tensor.rpartition(":")
    return (node, int(port)) if colon and port.isdigit() else (tensor, 0)


def join_tensor(node: str, port: int) -> str:
    """The tensor at `port` of `node`, in its shortest form."""
    return f"{node}:{port}" if port else node


def is_control(tensor: str) -> bool:
    """Whether an input is a control edge."""
    return tensor.startswith("^")


def node_of(tensor: str) -> str:
    """The node that makes a tensor, or that a control edge waits for."""
    return tensor[1:] if is_control(tensor) else split_tensor(tensor)[0]


def short_form(tensor: str) -> str:
    """`tensor` as every other part of the compiler writes it: without `:0`."""
    return tensor if is_control(tensor) else join_tensor(*split_tensor(tensor))


def with_node(tensor: str, node: str) -> str:
    """The same port (or control edge) of another node."""
    return f"^{node}" if is_control(tensor) else join_tensor(node, split_tensor(tensor)[1])
