"""Preprocessing promises pixels: no fold may change a rounding that decides one."""

from __future__ import annotations

from pbcompile.graph import Decline, Graph, Node
from pbcompile.passes.linear import LINEAR

ROUNDING = frozenset({"Floor", "Round", "Rint", "Ceil", "FloorDiv", "FloorMod"})
COMPARING = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"})


def require_not_rounded(graph: Graph, node: Node) -> None:
    """Decline where what `node` makes is rounded to integers, or compared, before anything linear reads it.

    A fold is exact in real arithmetic only.  x · 0.1 · 3 with 0.1 · 3 as one constant has another last bit, and where
    a rounding follows, now and then another pixel.  A batch norm is the model's, whose numbers have a tolerance.
    """
    if node.stands_for:
        return
    waiting, seen = [node], {node.name}
    while waiting:
        at = waiting.pop()
        for reader in graph.all_readers(at):
            is_cast = reader.op == "Cast" and not graph.dtype(reader.name).startswith(("float", "bfloat"))
            if is_cast or reader.op in ROUNDING or reader.op in COMPARING:
                raise Decline(f'the result is rounded by "{reader.name}", and another last bit could change it')
            if reader.name not in seen and reader.op not in LINEAR:
                seen.add(reader.name)
                waiting.append(reader)
