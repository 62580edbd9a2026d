"""Python's marshal format read as data: what a stored function says, without ever making a code object.

`marshal.loads` on foreign bytes can crash the interpreter, and what it gives could be run.  This reader knows only the
bytes; it bounds every length and depth, and raises `UnreadableError` for the rest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

MAX_ITEMS = 100_000
MAX_DEPTH = 100


class UnreadableError(Exception):
    """These bytes are no marshal data that this reader knows."""


@dataclass(frozen=True)
class Code:
    """A stored function: its bytecode and tables, as plain data.  `layout` says which Pythons write it so."""

    layout: str
    argument_count: int
    bytecode: bytes
    constants: tuple[Any, ...]
    names: tuple[str, ...]
    variables: tuple[str, ...]
    free: tuple[str, ...]
    name: str


LAYOUTS: dict[str, tuple[str, ...]] = {
    "3.11+": ("i:args", "i", "i", "i", "i", "o:code", "o:consts", "o:names", "o:variables", "o:kinds", "o", "o:name",
              "o", "i", "o", "o"),
    "3.8": ("i:args", "i", "i", "i", "i", "i", "o:code", "o:consts", "o:names", "o:variables", "o:free", "o:cells", "o",
            "o:name", "i", "o"),
    "3.0": ("i:args", "i", "i", "i", "i", "o:code", "o:consts", "o:names", "o:variables", "o:free", "o:cells", "o",
            "o:name", "i", "o"),
    "2.x": ("i:args", "i", "i", "i", "o:code", "o:consts", "o:names", "o:variables", "o:free", "o:cells", "o", "o:name",
            "i", "o"),
}  # fmt: skip
"""The fields of a code object by Python version: `i` an integer, `o` an object, and what those kept are called."""


def read_code(data: bytes) -> Code:
    """The function in `data`, tried in the layout of every Python; raises UnreadableError."""
    for layout in LAYOUTS:
        reader = _Reader(data, layout)
        try:
            value = reader.value(0)
        except (UnreadableError, struct.error, IndexError, UnicodeDecodeError, OverflowError, ValueError):
            continue
        if isinstance(value, Code) and reader.at == len(data):
            return value
    raise UnreadableError("no Python's layout fits")


class _Reader:
    def __init__(self, data: bytes, layout: str) -> None:
        self.data = data
        self.layout = layout
        self.at = 0
        self.refs: list[Any] = []
        self.interned: list[str] = []

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        kind = self._byte()
        is_ref = bool(kind & 0x80)
        kind &= 0x7F
        letter = chr(kind)
        if letter == "r":
            index = self._long()
            if not 0 <= index < len(self.refs):
                raise UnreadableError("a reference to nothing")
            return self.refs[index]
        slot = len(self.refs)
        if is_ref:
            self.refs.append(None)
        value = self._plain(letter, depth)
        if is_ref:
            self.refs[slot] = value
        return value

    def _plain(self, letter: str, depth: int) -> Any:
        simple = {"N": None, "T": True, "F": False, ".": Ellipsis, "S": "StopIteration", "0": None}
        if letter in simple:
            return simple[letter]
        if letter == "i":
            return self._long()
        if letter == "I":
            return int(struct.unpack("<q", self._take(8))[0])
        if letter == "l":
            return self._big()
        if letter == "g":
            return struct.unpack("<d", self._take(8))[0]
        if letter == "f":
            return float(self._take(self._byte()))
        if letter == "y":
            return complex(*struct.unpack("<dd", self._take(16)))
        if letter == "x":
            return complex(float(self._take(self._byte())), float(self._take(self._byte())))
        if letter in "stuaAzZR":
            return self._text(letter)
        if letter in "()[<>":
            count = self._byte() if letter == ")" else self._count()
            return tuple(self.value(depth + 1) for _ in range(count))
        if letter == "{":
            return self._dict(depth)
        if letter == "c":
            return self._code(depth)
        raise UnreadableError(f"type {letter!r}")

    def _text(self, letter: str) -> Any:
        if letter == "R":
            return self.interned[self._long()]
        if letter in "zZ":
            return self._take(self._byte()).decode("latin-1")
        raw = self._take(self._count())
        if letter == "s":
            return raw
        if letter == "u":
            return raw.decode("utf8", "surrogatepass")
        text = raw.decode("latin-1")
        if letter == "t" and self.layout == "2.x":
            self.interned.append(text)
        return text

    def _dict(self, depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        while self.data[self.at] != ord("0"):
            key = self.value(depth + 1)
            made[str(key)] = self.value(depth + 1)
        self.at += 1
        return made

    def _code(self, depth: int) -> Code:
        found: dict[str, Any] = {}
        for field in LAYOUTS[self.layout]:
            kind, _, name = field.partition(":")
            value = self._long() if kind == "i" else self.value(depth + 1)
            if name:
                found[name] = value
        names, variables = found["names"], found["variables"]
        if not isinstance(found["code"], bytes) or not isinstance(found["consts"], tuple):
            raise UnreadableError("no code object")
        free = (*_words(found.get("cells", ())), *_words(found.get("free", ())))
        return Code(
            self.layout, found["args"], found["code"], found["consts"], _words(names), _words(variables), free,
            _word(found["name"]),
        )  # fmt: skip

    def _big(self) -> int:
        count = self._long()
        if abs(count) > 1000:
            raise UnreadableError("a number of that size")
        digits = [struct.unpack("<H", self._take(2))[0] for _ in range(abs(count))]
        number = sum(int(digit) << (15 * i) for i, digit in enumerate(digits))
        return -number if count < 0 else number

    def _count(self) -> int:
        count = self._long()
        if not 0 <= count <= MAX_ITEMS:
            raise UnreadableError("a length of that size")
        return count

    def _long(self) -> int:
        return int(struct.unpack("<i", self._take(4))[0])

    def _byte(self) -> int:
        self.at += 1
        return int(self.data[self.at - 1])

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise UnreadableError("cut off")
        self.at += count
        return self.data[self.at - count : self.at]


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise UnreadableError("a name that is no text")
    return value


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        raise UnreadableError("names that are no tuple")
    return tuple(_word(item) for item in value)
