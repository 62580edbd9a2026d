"""JSON text with positions: where in the file every value and every key stands."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pbcompile.errors import PbcompileError, Problem, SpecError

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([{}\[\],:])|([^\s{}\[\],:"]+))')
MAX_BYTES = 4 << 20
MAX_DEPTH = 64
AT_KEY = ("name-clash", "key-unused")
"""Codes of problems in which the key is wrong, not its value."""


@dataclass(frozen=True)
class JsonText:
    """A parsed JSON document that knows the position of each of its parts.

    `values` and `keys` map JSON pointers to offsets into `text`.
    """

    file: str
    text: str
    document: Any
    values: dict[str, int]
    keys: dict[str, int]

    def locate(self, problem: Problem, *, at_key: bool = False) -> Problem:
        """`problem` with file, line, column and the source line of its pointer (or of the nearest parent)."""
        pointer = problem.pointer
        table = self.keys if at_key and pointer in self.keys else self.values
        while pointer not in table and pointer:
            pointer = pointer.rpartition("/")[0]
        return _at_offset(problem, self.file, self.text, table.get(pointer, 0))

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Give every problem raised inside that points into this text its line and column."""
        try:
            yield
        except PbcompileError as error:
            located = [
                problem if problem.line or not problem.pointer else self.locate(problem, at_key=problem.code in AT_KEY)
                for problem in error.problems
            ]
            raise type(error)(*located) from error.__cause__


def _at_offset(problem: Problem, file: str, text: str, offset: int) -> Problem:
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    return replace(
        problem,
        file=file,
        line=text.count("\n", 0, offset) + 1,
        column=offset - start + 1,
        source=text[start : len(text) if end < 0 else end].rstrip(),
    )


def escape(key: str) -> str:
    """A key as a JSON pointer token (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def read_json(path: Path) -> JsonText:
    """Read and parse the file.  Raises SpecError for a missing file, other encodings than UTF-8, and bad JSON."""
    file = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(Problem("spec-unreadable", f"{file} has more than {MAX_BYTES >> 20} MB; that is no spec"))
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = Problem("file-missing", f"there is no file {file}", hint="name a spec, such as spec.json")
        raise SpecError(problem) from None
    except UnicodeDecodeError as error:
        problem = Problem("spec-unreadable", f"{file} is no UTF-8 text (byte {error.start}); is it a spec?")
        raise SpecError(problem) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(Problem("spec-unreadable", f"{file} cannot be read: {reason}")) from None
    return parse_json(text, file)


def parse_json(text: str, file: str = "") -> JsonText:
    """Parse JSON.  Raises SpecError at the position of a syntax error, a repeated key, NaN, or nesting too deep."""
    try:
        document = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        problem = Problem("spec-syntax", f"this is no JSON: {error.msg}")
        raise SpecError(_at_offset(problem, file, text, min(error.pos, max(len(text) - 1, 0)))) from None
    except RecursionError:
        raise SpecError(Problem("spec-syntax", "this is nested too deeply for a spec", file=file)) from None
    except ValueError as error:
        word = str(error)
        offset = next((m.start(3) for m in _TOKEN.finditer(text) if m.group(3) == word), 0)
        problem = Problem("spec-syntax", f"this is no JSON: {word[:40]} is no number that a computer holds")
        raise SpecError(_at_offset(problem, file, text, offset)) from None
    values: dict[str, int] = {}
    keys: dict[str, int] = {}
    repeated: list[Problem] = []
    _scan(text, file, values, keys, repeated)
    if repeated:
        raise SpecError(*repeated)
    return JsonText(file, text, document, values, keys)


def _refuse_number(word: str) -> float:
    raise ValueError(word)


def _finite(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse_number(word)


def _scan(text: str, file: str, values: dict[str, int], keys: dict[str, int], repeated: list[Problem]) -> None:
    """Walk the tokens of valid JSON and note where every key and every value starts."""
    stack: list[tuple[str, str, int]] = []  # (kind of container, its pointer, index of the element)
    pointer, expects_key, position = "", False, 0
    while match := _TOKEN.match(text, position):
        position, start = match.end(), match.start(match.lastindex or 0)
        string, mark = match.group(1), match.group(2)
        if expects_key and string is not None:
            pointer = f"{stack[-1][1]}/{escape(json.loads(string))}"
            if pointer in keys:
                problem = Problem("spec-invalid", f"the key {string} stands here twice", pointer)
                repeated.append(_at_offset(problem, file, text, start))
            keys[pointer], expects_key = start, False
        elif mark in ("}", "]"):
            stack.pop()
        elif mark == ",":
            kind, parent, index = stack[-1]
            stack[-1] = (kind, parent, index + 1)
            expects_key = kind == "{"
            if kind == "[":
                pointer = f"{parent}/{index + 1}"
        elif mark != ":":
            values[pointer] = start
            if mark:
                if len(stack) >= MAX_DEPTH:
                    problem = Problem("spec-syntax", f"more than {MAX_DEPTH} levels of nesting are too deep for a spec")
                    raise SpecError(_at_offset(problem, file, text, start))
                stack.append((mark, pointer, 0))
                expects_key = mark == "{"
                if mark == "[":
                    pointer = f"{pointer}/0"
