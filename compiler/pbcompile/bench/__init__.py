"""Latency: how long programs take, measured so that the numbers can be compared."""

from pbcompile.bench.timing import Timing, time_calls, time_in_turn

__all__ = ["Timing", "time_calls", "time_in_turn"]
