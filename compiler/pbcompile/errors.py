"""What can go wrong, as data: one `Problem` per finding, one exception type per way a caller reacts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

EXIT_DONE = 0
EXIT_NO = 1
EXIT_SPEC = 2
EXIT_MODEL = 3
EXIT_BUG = 70


@dataclass(frozen=True)
class Problem:
    """One finding.

    `message` is one sentence with the offending value in it; `pointer` an RFC 6901 JSON pointer into the spec
    ("" is the whole document); `hint` says what to do and stays empty when we do not know.  `file`, `line`,
    `column` (1-based) and `source` (the text of that line) are filled in where the spec's text is at hand.
    """

    code: str
    message: str
    pointer: str = ""
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    source: str = ""

    def render(self) -> str:
        """The problem as a person reads it: where, what, the line with a caret, and what to do."""
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        at = f" at {self.pointer}" if self.pointer else ""
        text = f"{where + ': ' if where else ''}{self.code}{at}: {self.message}"
        if self.source:
            start = max(0, self.column - 61)
            text += f"\n      {self.source[start : start + 100]}\n      {' ' * (self.column - 1 - start)}^"
        if self.hint:
            text += f"\n      hint: {self.hint}"
        return text

    def as_json(self) -> dict[str, object]:
        """The fields that `--json` promises (spec-format, section 2)."""
        return {
            "code": self.code,
            "message": self.message,
            "pointer": self.pointer,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "hint": self.hint,
        }


class PbcompileError(Exception):
    """Base of every error that a user can cause.  `problems` is never empty."""

    exit_code: ClassVar[int] = EXIT_SPEC

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("an error needs at least one Problem")
        self.problems: tuple[Problem, ...] = problems
        super().__init__("\n".join(problem.render() for problem in problems))


class SpecError(PbcompileError):
    """The spec, a path in it, or the call is wrong."""


class ModelError(PbcompileError):
    """The model file cannot be read or compiled."""

    exit_code = EXIT_MODEL


class ParityError(PbcompileError):
    """The artifact is not the original: it gives other numbers, so nothing was written, or is of another model."""

    exit_code = EXIT_NO


class PassError(PbcompileError):
    """A graph pass broke an invariant: a bug in pbcompile."""

    exit_code = EXIT_BUG


def located(problem: Problem, **where: object) -> Problem:
    """`problem` with `file`, `line`, `column` or `source` filled in."""
    return replace(problem, **where)  # type: ignore[arg-type]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the nearest known word, or listing all of them when none is near."""
    words = sorted(known)
    near = difflib.get_close_matches(word.lower(), [w.lower() for w in words], n=1, cutoff=0.6)
    if near:
        match = next(w for w in words if w.lower() == near[0])
        return f'did you mean "{match}"?'
    return "known: " + ", ".join(words) if words else ""
