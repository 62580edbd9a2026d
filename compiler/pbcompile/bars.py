"""How far a long command is: bars on a terminal, lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def counting(total: int) -> Iterator[Callable[[], None]]:
    """A bar with the rate, on a terminal and for more than one input; on stderr."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    started = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("predict", total=total, rate="")
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            rate = done / max(time.perf_counter() - started, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:.1f} images/s")

        yield advance


@contextmanager
def progress_of(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, one line per finished stage elsewhere; always on stderr."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def show(stage: str, done: int, total: int) -> None:
                bar.update(task, description=stage, completed=done, total=total)

            yield show
        return
    started: dict[str, float] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in started:
            started[stage] = time.perf_counter()
        if done == total:
            click.echo(f"{stage}: {time.perf_counter() - started[stage]:.1f} s", err=True)

    yield tell
