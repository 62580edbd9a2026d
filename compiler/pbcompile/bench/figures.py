"""From times to figures that can be compared: quantiles, intervals, ratios.  Pure Python on lists of numbers.

The unit of every interval is the *round*: one uninterrupted turn of a program.  Calls within a turn resemble each other
(the same neighbours, the same clock), so thousands of them say little about how well the median is known; the medians
of several turns do.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SETTLED_WIDTH = 0.03
"""An interval narrower than this share of its median is narrow enough."""

LEAST_ROUNDS = 6
"""With fewer rounds not even [smallest, largest] holds the median in 95 of 100 cases: 1 - 2 / 2**6 = 0.97."""


@dataclass(frozen=True)
class Interval:
    """Where a median lies, and how sure that is.

    confidence: how often such an interval holds the median; below 0.95 where there were too few rounds.
    """

    median: float
    low: float
    high: float
    confidence: float

    @property
    def width(self) -> float:
        """Relative to the median."""
        return (self.high - self.low) / self.median if self.median else math.inf

    @property
    def is_settled(self) -> bool:
        """Whether enough rounds agree closely enough."""
        return self.confidence >= 0.95 and self.width <= SETTLED_WIDTH

    def holds(self, value: float) -> bool:
        """Whether `value` cannot be told from the median."""
        return self.low <= value <= self.high


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ascending values that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median and the narrowest pair of order statistics that holds it often enough.

    No distribution is assumed: the median of n draws lies between the k-th smallest and the k-th largest with
    probability 1 - 2 P(Binomial(n, 1/2) < k).  With too few values the pair is the smallest and the largest.
    """
    ordered = sorted(values)
    count = len(ordered)
    best, missed = 1, 2 * _below(1, count)
    while best < (count + 1) // 2 and 2 * _below(best + 1, count) <= 1 - confidence:
        best += 1
        missed = 2 * _below(best, count)
    return Interval(statistics.median(ordered), ordered[best - 1], ordered[count - best], 1 - missed)


def _below(k: int, count: int) -> float:
    """P(Binomial(count, 1/2) < k)."""
    return sum(math.comb(count, i) for i in range(k)) / float(2**count)


def ratio_interval(rounds: Sequence[float], base: Sequence[float]) -> Interval:
    """How many times slower than `base`, from the medians of the same rounds.

    Turns of one round follow each other at once, so what slows the machine down for a while slows both.
    """
    return median_interval([mine / theirs for mine, theirs in zip(rounds, base, strict=True)])


def noise_warnings(
    intervals: Mapping[str, Interval], ratios: Mapping[str, Interval], base: str, load: float, cpus: int
) -> list[str]:
    """What a reader must know before believing the figures; empty on a quiet machine.

    ratios: against the program called `base`.  load: the load average before anything was started.
    """
    said = []
    if load > 0.3 * cpus:
        said.append(f"the machine was busy before anything was started: load {load:.1f} on {cpus} CPUs")
    unsettled = [
        f"{name} ({i.low:.4g} to {i.high:.4g} ms{'' if i.confidence >= 0.95 else ', too few rounds'})"
        for name, i in intervals.items()
        if not i.is_settled
    ]
    if unsettled:
        said.append(f"not settled, give more --seconds or a quieter machine: {', '.join(unsettled)}")
    for name, ratio in ratios.items():
        if name != base and ratio.holds(1.0):
            said.append(f"too noisy to tell {name} and {base} apart: ratio {ratio.low:.3f} to {ratio.high:.3f}")
    return said
