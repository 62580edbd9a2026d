"""Programs timed in turn, each in a process of its own, round after round until their medians are known.

Runtimes disturb their neighbours, machines slow down and speed up, and one process is not like the next.  So every
program runs alone while the others wait on their pipes; turns are short and follow each other, so that what slows the
machine down slows all of them; and everything is repeated in fresh processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pbcompile.bench.contender import Contender
from pbcompile.bench.figures import Interval, median_interval
from pbcompile.bench.timing import Timing, summarize
from pbcompile.errors import PbcompileError, Problem

TURN_SECONDS = 0.3
"""Long enough for many calls, short enough for the machine to stay the same through a round."""

Tell = Callable[[str, float], None]
"""Called with what is running now and the share of the measurement that is done."""


@dataclass(frozen=True)
class Settings:
    """How long and how to measure.

    seconds:   the most that the turns of all programs take together; starting processes comes on top.
    processes: how many fresh processes each program gets.
    batches:   sizes to take the throughput at; empty where the spec fixes the batch.
    """

    seconds: float = 60.0
    processes: int = 2
    batches: Sequence[int] = ()


@dataclass
class Record:
    """What was measured of one program.

    rounds:     milliseconds of the calls of each turn.
    starts:     `import_ms`, `load_ms` and `first_ms` of each process.
    parts:      median milliseconds of each part that runs alone, one for each process.
    throughput: images in a second by batch size.
    """

    rounds: list[list[float]] = field(default_factory=list)
    starts: list[Mapping[str, float]] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    throughput: dict[int, float] = field(default_factory=dict)
    peak_mb: float = 0.0

    @property
    def medians(self) -> list[float]:
        """Of each round."""
        return [statistics.median(times) for times in self.rounds]

    @property
    def interval(self) -> Interval:
        """Of the median, from the rounds."""
        return median_interval(self.medians)

    @property
    def timing(self) -> Timing:
        """Over all calls."""
        return summarize(self.times, self.start("first_ms"))

    @property
    def times(self) -> list[float]:
        """Milliseconds of all counted calls."""
        return [milliseconds for times in self.rounds for milliseconds in times]

    def start(self, key: str) -> float:
        """The median over the processes of one of `starts`."""
        return statistics.median(start[key] for start in self.starts)


class Child:
    """A contender's process."""

    def __init__(self, name: str, contender: Contender) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": str(contender.threads),
            "KERAS_BACKEND": "tensorflow",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pbcompile.bench.child", contender.as_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.started = self._answer()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait.  Raises PbcompileError with the child's last words when it ends instead."""
        assert self._process.stdin is not None  # it is a PIPE, above
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words say why
        return self._answer()

    def time(self, seconds: float, batch: int | None = None, part: str = "") -> list[float]:
        """Milliseconds of the calls of one turn."""
        times: list[float] = self.ask(do="time", seconds=seconds, batch=batch, part=part)["times"]
        return times

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PbcompileError(Problem("bench-failed", f"{self.name} {self._last_words()}"))
        answer: dict[str, Any] = json.loads(line)
        if "unable" in answer:
            raise PbcompileError(Problem("bench-unable", f"{self.name} cannot run this spec: {answer['unable']}"))
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"ended with code {code}: {lines[-1] if lines else 'no word'}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                file.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure(
    contenders: Mapping[str, Contender], settings: Settings, folder: Path, tell: Tell, needed: Sequence[str] = ()
) -> tuple[dict[str, Record], dict[str, str]]:
    """Time every contender.

    folder: where each writes its answers, `<name>.npz`.  needed: names without which there is no result.
    Returns the records of those that ran, and one sentence for each that did not.  Raises PbcompileError when one of
    the needed does not run.
    """
    records: dict[str, Record] = {}
    skipped: dict[str, str] = {}
    for process in range(settings.processes):
        is_last = process == settings.processes - 1
        running = {name: c for name, c in contenders.items() if name not in skipped}
        with _crew(running, skipped, needed, lambda name: tell(f"start {name}", 0.0)) as crew:
            for child in crew:
                record = records.setdefault(child.name, Record())
                record.starts.append(child.started)
                if process == 0:
                    child.ask(do="answers", path=str(folder / f"{child.name}.npz"))
            _take_turns(crew, records, settings, process, tell)
            for child in crew:
                _take_parts(child, records[child.name])
                records[child.name].peak_mb = max(records[child.name].peak_mb, child.ask(do="memory")["peak_mb"])
            if is_last and settings.batches:
                for child in crew:
                    tell(f"throughput of {child.name}", 1.0)
                    _take_throughput(child, records[child.name], settings.batches)
                    child.close()  # large batches hold much memory, and the next one needs it
    return records, skipped


@contextmanager
def _crew(
    contenders: Mapping[str, Contender], skipped: dict[str, str], needed: Sequence[str], tell: Callable[[str], None]
) -> Iterator[list[Child]]:
    """All children, started one after the other; those that cannot start are noted in `skipped`."""
    with ExitStack() as stack:
        crew = []
        for name, contender in contenders.items():
            tell(name)
            try:
                crew.append(stack.enter_context(Child(name, contender)))
            except PbcompileError as error:
                if name in needed:
                    raise
                skipped[name] = error.problems[0].message
        yield crew


def _take_turns(
    crew: Sequence[Child], records: Mapping[str, Record], settings: Settings, process: int, tell: Tell
) -> None:
    """Rounds until this process's share of the time is over, or in the last one until every median is settled."""
    share = settings.seconds / settings.processes
    started = time.perf_counter()
    turn = 0
    while True:
        passed = time.perf_counter() - started
        if turn and (passed >= share or (process == settings.processes - 1 and _is_settled(crew, records))):
            return
        for child in crew[turn % len(crew) :] + crew[: turn % len(crew)]:  # type: ignore[operator]
            done = min(process * share + time.perf_counter() - started, settings.seconds)
            tell(child.name, done / settings.seconds)
            records[child.name].rounds.append(child.time(TURN_SECONDS))
        turn += 1


def _is_settled(crew: Sequence[Child], records: Mapping[str, Record]) -> bool:
    return all(records[child.name].interval.is_settled for child in crew)


def _take_throughput(child: Child, record: Record, batches: Sequence[int]) -> None:
    for batch in batches:
        child.time(0, batch)  # a new size is traced and planned anew
        record.throughput[batch] = 1e3 * batch / statistics.median(child.time(2 * TURN_SECONDS, batch))


def _take_parts(child: Child, record: Record) -> None:
    for part in child.started["parts"]:
        record.parts.setdefault(part, []).append(statistics.median(child.time(TURN_SECONDS, part=part)))
