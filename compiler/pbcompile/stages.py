"""The stages of a long command: timed, and told to whoever shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


class Stages:
    """Times stages: `with stages("verify", 8) as advance: …`; the caller says `advance()` after each of the 8 parts."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or (lambda stage, done, total: None)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, total: int = 1) -> Iterator[Callable[[], None]]:
        """Run one stage of `total` parts."""
        started, done = time.perf_counter(), 0

        def advance() -> None:
            nonlocal done
            done += 1
            self.progress(stage, min(done, total - 1), total)

        self.progress(stage, 0, total)
        yield advance
        self.seconds[stage] = round(time.perf_counter() - started, 3)
        self.progress(stage, total, total)
