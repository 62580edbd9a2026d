"""What a stored Python function computes, followed symbolically and never run.

The bytecode of Python 2.7 to 3.13 is walked once over symbols: arguments, constants, names, calls and arithmetic give
an expression; a branch, a loop or an unknown instruction gives up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pbcompile.models.marshal_reader import Code
from pbcompile.spec.formula import Expr, is_small


class UnknownInstructionError(Exception):
    """An instruction that this reader does not follow."""


BINARY_BEFORE_311 = {19: "**", 20: "*", 21: "/", 22: "%", 23: "+", 24: "-", 16: "@", 25: "index", 26: "//", 27: "/",
                     55: "+", 56: "-", 57: "*", 29: "/", 58: "/"}  # fmt: skip
BINARY_ARGUMENT = {
    0: "+",
    2: "//",
    4: "@",
    5: "*",
    6: "%",
    8: "**",
    10: "-",
    11: "/",
    13: "+",
    18: "*",
    23: "-",
    24: "/",
}

COMMON = {1: "pop", 11: "neg", 83: "return", 100: "const", 102: "tuple", 103: "list", 106: "attr", 116: "global",
          124: "fast", 125: "store", 133: "slice", 92: "unpack"}  # fmt: skip
OLD = {**COMMON, 131: "call_old", 136: "deref", 141: "call_kw_old", 160: "attr", 161: "call_old", 162: "extend"}
VERSIONS: Mapping[str, Mapping[int, str]] = {
    "2.x": {**OLD, 131: "call_py2"},
    "3.5": {**OLD, 131: "call_py2"},
    "3.6": OLD,
    "3.11": {**COMMON, 0: "skip", 2: "skip", 25: "subscript", 122: "binary", 137: "deref", 149: "skip", 151: "skip",
             160: "attr", 162: "extend", 166: "skip", 171: "call", 172: "kw_names", 116: "global_311"},
    "3.12": {**COMMON, 26: "cut", 0: "skip", 2: "skip", 25: "subscript", 121: "return_const", 122: "binary",
             137: "deref", 149: "skip", 151: "skip", 162: "extend", 171: "call", 172: "kw_names", 116: "global_311",
             106: "attr_312"},
    "3.13": {0: "skip", 32: "pop", 34: "skip", 149: "skip", 62: "skip", 85: "fast", 83: "const", 91: "global_311",
             82: "attr_312", 53: "call", 57: "call_kw", 45: "binary", 5: "subscript", 42: "neg", 36: "return",
             103: "return_const", 84: "deref", 52: "tuple", 47: "list", 50: "slice", 81: "extend",
             110: "store", 117: "unpack", 112: "store_store", 88: "fast_fast", 111: "store_fast", 4: "cut"},
}  # fmt: skip
"""What each instruction number does, by Python; the numbers come from the `opcode` module of each."""
ATTRIBUTE_CACHES = {"3.11": 4, "3.12": 9}
TRIED = {"2.x": ("2.x",), "3.0": ("3.6", "3.5"), "3.8": ("3.6",), "3.11+": ("3.13", "3.12", "3.11")}
"""Which Pythons may have written code of a layout."""


def expression(code: Code) -> Expr | None:
    """What the function returns, in terms of its arguments; None where it is not a plain expression."""
    for version in TRIED[code.layout]:
        try:
            body = _Walk(code, version).run()
            return body if is_small(body) else None
        except (UnknownInstructionError, IndexError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return None


class _Walk:
    def __init__(self, code: Code, version: str) -> None:
        self.code = code
        self.version = version
        self.stack: list[Any] = []
        self.locals: dict[int, Expr] = {i: Expr("arg", (name,)) for i, name in enumerate(code.variables)}
        self.keywords: tuple[str, ...] = ()

    def run(self) -> Expr:
        table = VERSIONS[self.version]
        for number, argument in self._instructions():
            word = table.get(number)
            if word is None and self.version in ("2.x", "3.5", "3.6") and number in BINARY_BEFORE_311:
                self._binary(BINARY_BEFORE_311[number])
                continue
            if word is None:
                raise UnknownInstructionError(str(number))
            if word in ("return", "return_const"):
                result = _constant(self.code.constants[argument]) if word == "return_const" else self.stack.pop()
                if not isinstance(result, Expr) or self.stack:
                    raise UnknownInstructionError("return")
                return result
            self._step(word, argument)
        raise UnknownInstructionError("no return")

    def _instructions(self) -> Iterator[tuple[int, int]]:
        data = self.code.bytecode
        if self.version in ATTRIBUTE_CACHES:
            self._require_caches(data, ATTRIBUTE_CACHES[self.version])
        if self.version not in ("2.x", "3.5"):
            if len(data) % 2:
                raise UnknownInstructionError("odd length")
            extended = 0
            for at in range(0, len(data), 2):
                argument = data[at + 1] | extended
                extended = 0
                if data[at] == 144:
                    extended = argument << 8
                    continue
                yield data[at], argument
            return
        at = 0
        while at < len(data):
            number = data[at]
            if number < 90:
                yield number, 0
                at += 1
            else:
                yield number, data[at + 1] | data[at + 2] << 8
                at += 3

    def _require_caches(self, data: bytes, count: int) -> None:
        """Python 3.11 and 3.12 share their numbers, but not the empty words behind LOAD_ATTR, nor what it means."""
        for at in range(0, len(data), 2):
            if data[at] == 106:
                zeros = next((i for i in range(at + 2, len(data), 2) if data[i]), len(data)) - at - 2
                if zeros != 2 * count:
                    raise UnknownInstructionError("caches")

    def _step(self, word: str, argument: int) -> None:
        code, stack = self.code, self.stack
        if word == "fast":
            stack.append(self.locals[argument])
        elif word == "store":
            self.locals[argument] = stack.pop()
        elif word in ("fast_fast", "store_store", "store_fast"):  # Python 3.13 puts two into one, high bits first
            for half, index in zip(word.split("_"), (argument >> 4, argument & 15), strict=True):
                self._step(half, index)
        elif word == "unpack":
            whole = stack.pop()
            stack.extend(Expr("index", (whole, Expr("const", (i,)))) for i in reversed(range(argument)))
        elif word == "cut":
            start, stop = self._pop(2)
            stack.append(Expr("index", (stack.pop(), Expr("slice", (start, stop)))))
        elif word == "const":
            stack.append(_constant(code.constants[argument]))
        elif word in ("global", "global_311"):
            name = code.names[argument >> 1 if word == "global_311" else argument]
            stack.append(Expr("name", (name,)))
        elif word == "deref":
            names = code.free or code.variables
            stack.append(Expr("name", (names[argument] if argument < len(names) else "?",)))
        elif word in ("attr", "attr_312"):
            self._attribute(code.names[argument >> 1 if word == "attr_312" else argument])
        elif word == "neg":
            stack.append(Expr("neg", (stack.pop(),)))
        elif word == "subscript":
            self._binary("index")
        elif word == "binary":
            self._binary(BINARY_ARGUMENT[argument])
        elif word in ("tuple", "list", "slice"):
            stack.append(Expr(word, tuple(self._pop(argument))))
        elif word == "extend":
            (items,) = self._pop(1)
            target = stack.pop()
            stack.append(Expr("list", (*target.args, *items.args)))
        elif word == "kw_names":
            self.keywords = _names(_constant(code.constants[argument]))
        elif word.startswith("call"):
            self._call(word, argument)
        elif word == "pop":
            stack.pop()

    def _call(self, word: str, argument: int) -> None:
        count, keywords = argument, self.keywords
        self.keywords = ()
        if word == "call_py2":
            positional, pairs = argument & 0xFF, argument >> 8
            named = self._pop(2 * pairs)
            kwargs = {str(named[i].args[0]): named[i + 1] for i in range(0, len(named), 2)}
            args = self._pop(positional)
            self.stack.append(Expr("call", (self.stack.pop(), *args), kwargs))
            return
        if word in ("call_kw_old", "call_kw"):
            keywords = _names(self.stack.pop())
        given = self._pop(count)
        split = len(given) - len(keywords)
        kwargs = dict(zip(keywords, given[split:], strict=True))
        self.stack.append(Expr("call", (self.stack.pop(), *given[:split]), kwargs))

    def _attribute(self, name: str) -> None:
        holder = self.stack.pop()
        is_name = holder.op == "name"
        self.stack.append(Expr("name", (f"{holder.args[0]}.{name}",)) if is_name else Expr("attr", (holder, name)))

    def _binary(self, op: str) -> None:
        left, right = self._pop(2)
        self.stack.append(Expr(op, (left, right)))

    def _pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise UnknownInstructionError("stack")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken


def _constant(value: Any) -> Expr:
    if isinstance(value, tuple):
        return Expr("tuple", tuple(_constant(item) for item in value))
    if isinstance(value, Code):
        raise UnknownInstructionError("a function inside")
    return Expr("const", (value.decode("latin-1") if isinstance(value, bytes) else value,))


def _names(value: Expr) -> tuple[str, ...]:
    return tuple(str(item.args[0]) for item in value.args)
