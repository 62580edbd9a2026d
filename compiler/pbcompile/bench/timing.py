"""Timing of calls, and of commands that time themselves, in turn, since runtimes disturb their neighbours."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pbcompile.bench.figures import quantile

WARM_UP = 20
"""Calls that are not counted: TensorFlow compiles, plans and grows its pools in the first ones."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call, and over how many calls; the first call stands alone."""

    first_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int

    def as_json(self) -> str:
        """One line that `time_in_turn` reads."""
        return json.dumps(asdict(self))


def milliseconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def summarize(times: Sequence[float], first_ms: float) -> Timing:
    """The figures of these calls."""
    ordered = sorted(times)
    p50, p90, p99 = (quantile(ordered, share) for share in (0.5, 0.9, 0.99))
    return Timing(first_ms, ordered[0], p50, p90, p99, len(ordered))


def time_calls(call: Callable[[Any], object], feeds: Sequence[Any], seconds: float) -> Timing:
    """Time `call` in this process, on each of `feeds` in turn, whole passes over them until `seconds` are over."""
    warm_up = [milliseconds(lambda i=i: call(feeds[i % len(feeds)])) for i in range(WARM_UP)]  # type: ignore[misc]
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        times += [milliseconds(lambda feed=feed: call(feed)) for feed in feeds]  # type: ignore[misc]
    return summarize(times, warm_up[0])


def time_in_turn(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Timing]:
    """Run each command, whose last line on stdout is `Timing.as_json`, in turn, `rounds` times.

    The result is the median of the rounds.  Raises CalledProcessError when a command fails.
    """
    # Without the log level that the command line sets for itself, children decide for themselves what to show.
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    measured: dict[str, list[Timing]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            measured[name].append(Timing(**json.loads(done.stdout.splitlines()[-1])))
    return {name: _median(timings) for name, timings in measured.items()}


def _median(timings: Sequence[Timing]) -> Timing:
    """Each figure's median; the runs are added up."""
    figures = {
        f.name: statistics.median(getattr(t, f.name) for t in timings) for f in fields(Timing) if f.name != "runs"
    }
    return Timing(**figures, runs=sum(t.runs for t in timings))
