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
from contextlib import contextmanager
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
        try:
            self.started = self._answer()
        except PbcompileError:
            self.close()
            raise

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
            raise PbcompileError(Problem("bench-unable", answer["unable"]))
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"ended with code {code}: {lines[-1][:300] if lines else 'no word'}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                file.close()


class Crew:
    """The children that still take part.  One that fails leaves with a sentence in `skipped`, unless it is needed."""

    def __init__(self, needed: Sequence[str], skipped: dict[str, str]) -> None:
        self.children: list[Child] = []
        self._needed, self._skipped = needed, skipped

    def start(self, name: str, contender: Contender) -> None:
        """One more child."""
        with self._excused(name):
            self.children.append(Child(name, contender))

    def each(self, act: Callable[[Child], None], first: int = 0) -> None:
        """`act` on every child, beginning with number `first`: nobody always runs behind the same neighbour."""
        first %= len(self.children)
        for child in self.children[first:] + self.children[:first]:
            with self._excused(child.name):
                act(child)

    @contextmanager
    def _excused(self, name: str) -> Iterator[None]:
        try:
            yield
        except PbcompileError as error:
            if name in self._needed:
                raise
            self._skipped[name] = error.problems[0].message
            for child in [child for child in self.children if child.name == name]:
                child.close()
                self.children.remove(child)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.close()


def measure(
    contenders: Mapping[str, Contender], settings: Settings, folder: Path, tell: Tell, needed: Sequence[str]
) -> tuple[dict[str, Record], dict[str, str]]:
    """Time every contender.

    folder: where each writes its answers, `<name>.npz`.  needed: names without which there is no result.
    Returns the records of those that ran, and one sentence for each that did not.  Raises PbcompileError when one of
    the needed does not run.
    """
    records = {name: Record() for name in contenders}
    skipped: dict[str, str] = {}
    refused: dict[str, str] = {}
    for process in range(settings.processes):
        with Crew(needed, skipped) as crew:
            for name, contender in contenders.items():
                if name not in skipped:
                    tell(f"start {name}", process / settings.processes)
                    crew.start(name, contender)
            crew.each(lambda child: records[child.name].starts.append(child.started))
            if process == 0:
                crew.each(lambda child: _write_answers(child, folder))
            _take_turns(crew, records, settings, process, tell)
            crew.each(lambda child: _take_parts(child, records[child.name]))
            if process == settings.processes - 1 and settings.batches:
                for child in crew.children:
                    tell(f"throughput of {child.name}", 1.0)
                    refused |= _take_throughput(child, records[child.name], settings.batches)
    return {name: record for name, record in records.items() if name not in skipped}, skipped | refused


def _write_answers(child: Child, folder: Path) -> None:
    child.ask(do="answers", path=str(folder / f"{child.name}.npz"))


def _take_turns(crew: Crew, records: Mapping[str, Record], settings: Settings, process: int, tell: Tell) -> None:
    """Rounds until this process's share of the time is over, or in the last one until every median is settled."""
    share = settings.seconds / settings.processes
    started = time.perf_counter()

    def take_turn(child: Child) -> None:
        done = process * share + min(time.perf_counter() - started, share)
        tell(child.name, done / settings.seconds)
        records[child.name].rounds.append(child.time(TURN_SECONDS))

    turn = 0
    while True:
        crew.each(take_turn, turn)
        turn += 1
        is_last = process == settings.processes - 1
        if time.perf_counter() - started >= share or (is_last and _is_settled(crew, records)):
            return


def _is_settled(crew: Crew, records: Mapping[str, Record]) -> bool:
    return all(records[child.name].interval.is_settled for child in crew.children)


def _take_parts(child: Child, record: Record) -> None:
    for part in child.started["parts"]:
        record.parts.setdefault(part, []).append(statistics.median(child.time(TURN_SECONDS, part=part)))
    record.peak_mb = max(record.peak_mb, child.ask(do="memory")["peak_mb"])


def _take_throughput(child: Child, record: Record, batches: Sequence[int]) -> dict[str, str]:
    """Why a batch size cannot be run, as a sentence; what was measured before stays.

    Ends the child: large batches hold much memory, and the next one needs it.
    """
    for batch in batches:
        try:
            child.time(0, batch)  # a new size is traced and planned anew
            record.throughput[batch] = 1e3 * batch / statistics.median(child.time(2 * TURN_SECONDS, batch))
        except PbcompileError as error:
            return {f"{child.name}, {batch} at once,": error.problems[0].message}
    child.close()
    return {}
