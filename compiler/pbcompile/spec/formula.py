"""Formulas: what a Lambda layer computes, as data.  `K.abs(x[0] - x[1])` is read, checked and never run as Python."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_NODES = 2000
MAX_DEPTH = 60


@dataclass(frozen=True)
class Expr:
    """One node of an expression: `op` with `args`.

    "arg" (its name), "const" (its value), "name" (a dotted global), "call" (function, arguments; keyword arguments in
    `kwargs`), "tuple", "list", "slice", "index", "attr" (of what, its name), "neg", or one of + - * / ** // % @.
    """

    op: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.op in ("arg", "name"):
            return str(self.args[0])
        if self.op == "const":
            return "..." if self.args[0] is Ellipsis else repr(self.args[0])
        if self.op == "call":
            words = [str(a) for a in self.args[1:]] + [f"{k}={v}" for k, v in self.kwargs.items()]
            return f"{self.args[0]}({', '.join(words)})"
        if self.op in ("tuple", "list"):
            inner = ", ".join(str(a) for a in self.args)
            return f"[{inner}]" if self.op == "list" else f"({inner}{',' if len(self.args) == 1 else ''})"
        if self.op == "attr":
            return f"{braced(self.args[0])}.{self.args[1]}"
        if self.op == "index":
            index = self.args[1]
            several = isinstance(index, Expr) and index.op == "tuple" and len(index.args) > 1
            return f"{braced(self.args[0])}[{', '.join(map(str, index.args)) if several else index}]"
        if self.op == "slice":
            return ":".join("" if str(a) == "None" else str(a) for a in self.args)
        if self.op == "neg":
            return f"-{braced(self.args[0])}"
        return f"{braced(self.args[0])} {self.op} {braced(self.args[1])}"

    def parts(self) -> Iterator[Expr]:
        """The expressions right inside this one."""
        for part in (*self.args, *self.kwargs.values()):
            if isinstance(part, Expr):
                yield part


def braced(value: Any) -> str:
    """`value` as text, in brackets where it would otherwise mean something else inside another expression."""
    plain = ("arg", "name", "const", "call", "tuple", "list", "index", "attr")
    return str(value) if not isinstance(value, Expr) or value.op in plain else f"({value})"


def is_small(body: Expr) -> bool:
    """Whether an expression has a size that a person reads: shared parts count as often as they are written."""
    count, level, depth = 0, [body], 0
    while level:
        depth, count = depth + 1, count + len(level)
        if count > MAX_NODES or depth > MAX_DEPTH:
            return False
        level = [part for item in level for part in item.parts()]
    return True


@dataclass(frozen=True)
class Formula:
    """A formula of `x`, what the layer is fed (`x[0]`, `x[1]`, … where it is fed several), as written and as read."""

    text: str
    body: Expr


class FormulaError(Exception):
    """The text is no formula; the message says why."""


BINARY: Mapping[type[ast.AST], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**",
                                       ast.FloorDiv: "//", ast.Mod: "%", ast.MatMult: "@"}  # fmt: skip


def parse_formula(text: str) -> Formula:
    """`text` as a formula; raises FormulaError.  Nothing in it is looked up or run here."""
    if len(text) > 20_000:
        raise FormulaError(f"it is {len(text)} characters long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of 1if and the like
            tree = ast.parse(text.strip(), mode="eval").body
        body = _read(tree, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"it is no expression: {(str(error).splitlines() or ['?'])[0]}") from None
    if not is_small(body):
        raise FormulaError("it is too large")
    return Formula(text, body)


def _read(node: ast.expr, depth: int) -> Expr:
    if depth > MAX_DEPTH:
        raise FormulaError("it is nested too deeply")

    def inner(part: ast.expr) -> Expr:
        return _read(part, depth + 1)

    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (int, float, str, type(...)))):
        return Expr("const", (node.value,))
    if isinstance(node, ast.Name):
        return Expr("arg" if node.id == "x" else "name", (node.id,))
    if isinstance(node, ast.Attribute):
        holder = inner(node.value)
        is_name = holder.op == "name"
        return Expr("name", (f"{holder.args[0]}.{node.attr}",)) if is_name else Expr("attr", (holder, node.attr))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return Expr("neg", (inner(node.operand),)) if isinstance(node.op, ast.USub) else inner(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        return _modest(Expr(BINARY[type(node.op)], (inner(node.left), inner(node.right))))
    if isinstance(node, (ast.Tuple, ast.List)):
        return Expr("tuple" if isinstance(node, ast.Tuple) else "list", tuple(inner(item) for item in node.elts))
    if isinstance(node, ast.Slice):
        ends = [node.lower, node.upper, *([node.step] if node.step is not None else [])]
        return Expr("slice", tuple(Expr("const", (None,)) if end is None else inner(end) for end in ends))
    if isinstance(node, ast.Subscript):
        return Expr("index", (inner(node.value), inner(node.slice)))
    if isinstance(node, ast.Call):
        keywords = {keyword.arg: inner(keyword.value) for keyword in node.keywords if keyword.arg is not None}
        if len(keywords) == len(node.keywords):
            return Expr("call", (inner(node.func), *map(inner, node.args)), keywords)
    raise FormulaError(f"it has a {type(node).__name__}, and holds only numbers, x, calls, indices and arithmetic")


def _modest(body: Expr) -> Expr:
    """`body`, an operation; FormulaError where Python alone would compute something huge, such as 9 ** 9 ** 9."""
    left, right = body.args
    if body.op == "*" and any(side.op in ("tuple", "list") or _is_text(side) for side in (left, right)):
        raise FormulaError("it repeats a text or a list")
    if body.op == "**" and not _has_input(left) and not _has_input(right):
        power = right.args[0] if right.op == "neg" else right
        is_plain = power.op == "const" and isinstance(power.args[0], (int, float)) and power.args[0] <= 64
        if not is_plain or _has_power(left):
            raise FormulaError(f"the power {body} is no number of ordinary size")
    return body


def _is_text(body: Expr) -> bool:
    return body.op == "const" and isinstance(body.args[0], str)


def _has_input(body: Expr) -> bool:
    return body.op == "arg" or any(_has_input(part) for part in body.parts())


def _has_power(body: Expr) -> bool:
    return body.op == "**" or any(_has_power(part) for part in body.parts())
