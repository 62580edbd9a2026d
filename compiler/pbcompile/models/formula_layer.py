"""A formula of the spec as a layer: pure array functions by name, evaluated over tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from pbcompile.models.tensorflow_calls import NOT_PURE, Wrapped, find_function
from pbcompile.spec.formula import Expr

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "//": operator.floordiv, "%": operator.mod, "@": operator.matmul,
}  # fmt: skip
BACKEND = ("K.", "backend.", "keras.backend.", "tf.keras.backend.", "tensorflow.keras.backend.")
TENSORFLOW = ("tf.", "tensorflow.")
OPERATIONS = ("ops.", "keras.ops.")
NOT_ARRAYS = frozenset({"map", "scan", "associative_scan", "cond", "fori_loop", "vectorized_map", "switch",
                        "custom_gradient", "convert_to_numpy", "device", "name_scope"})  # fmt: skip
"""Operations of `keras.ops` that take Python functions or give no array."""
DTYPES = frozenset({"float16", "float32", "float64", "bfloat16", "uint8", "uint16", "int8", "int16", "int32", "int64",
                    "bool"})  # fmt: skip


class FormulaLayer(keras.layers.Layer):  # type: ignore[misc]
    """A formula in place of a Lambda; `functions` holds what its calls mean, from `functions_of`."""

    def __init__(self, body: Expr, functions: Mapping[str, Callable[..., Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = Wrapped((body, dict(functions)))

    def call(self, x: Any) -> Any:
        """The formula's value for `x`, one tensor or a list of them."""
        body, functions = self.body.value
        return _value(body, x, functions)


def functions_of(body: Expr) -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """The functions that a formula calls, by the name it calls them, and the names that mean nothing here."""
    found: dict[str, Callable[..., Any]] = {}
    unknown: list[str] = []
    for name, is_called in _names(body):
        if not is_called:
            if name.rpartition(".")[2] not in DTYPES:
                unknown.append(name)
            continue
        function = _function(name)
        if function is None:
            unknown.append(name)
        else:
            found[name] = function
    return found, list(dict.fromkeys(unknown))


def _names(body: Expr) -> Iterator[tuple[str, bool]]:
    if body.op == "name":
        yield str(body.args[0]), False
        return
    parts = list(body.parts())
    if body.op == "call":
        called = body.args[0]
        yield (str(called), True)
        parts = parts[1:] if isinstance(called, Expr) else parts
    for part in parts:
        yield from _names(part)


def _function(name: str) -> Callable[..., Any] | None:
    if name in ("abs", "K.abs"):
        return keras.ops.abs  # type: ignore[no-any-return]
    for prefix in BACKEND:
        if name.startswith(prefix):
            last = name.removeprefix(prefix)
            return keras.config.epsilon if last == "epsilon" else find_function(f"keras.backend.{last}")
    for prefix in OPERATIONS:
        last = name.removeprefix(prefix)
        if name.startswith(prefix) and last.isidentifier() and not last.startswith("_"):
            is_pure = last not in NOT_ARRAYS and not any(word in last for word in NOT_PURE)
            return getattr(keras.ops, last, None) if is_pure else None
    for prefix in TENSORFLOW:
        if name.startswith(prefix):
            return find_function(name.removeprefix(prefix))
    return None


def _value(body: Any, x: Any, functions: Mapping[str, Callable[..., Any]]) -> Any:
    if not isinstance(body, Expr):
        return body

    def inner(part: Any) -> Any:
        return _value(part, x, functions)

    op, args = body.op, body.args
    if op == "arg":
        return x
    if op == "const":
        return args[0]
    if op == "name":
        return str(args[0]).rpartition(".")[2]
    if op == "tuple":
        return tuple(inner(part) for part in args)
    if op == "list":
        return [inner(part) for part in args]
    if op == "slice":
        return slice(*(inner(part) for part in args))
    if op == "index":
        return inner(args[0])[inner(args[1])]
    if op == "neg":
        return -inner(args[0])
    if op == "attr":
        if args[1] not in ("shape", "dtype"):
            raise ValueError(f"a formula knows no .{args[1]}")
        return getattr(inner(args[0]), args[1])
    if op == "call":
        given = [inner(part) for part in args[1:]]
        return functions[str(args[0])](*given, **{key: inner(part) for key, part in body.kwargs.items()})
    return OPERATORS[op](inner(args[0]), inner(args[1]))
