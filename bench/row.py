"""One line of the benchmark table, and how to time two things against each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """Both figures in `unit` (smaller is better), ratio = baseline / ours."""

    name: str
    ours: float
    baseline: float
    ratio: float
    unit: str
    goal: str


def row(name: str, ours: float, baseline: float, unit: str, goal: str) -> Row:
    return Row(name, ours, baseline, baseline / ours, unit, goal)


def times_us(ours: Callable[[], object], baseline: Callable[[], object], rounds: int = 200) -> np.ndarray:
    """Microseconds (2, rounds) of each, called in turn so that a drifting machine hits both alike."""
    times = np.empty((2, rounds))
    for call in (ours, baseline):
        call()  # warm-up
    for i in range(rounds):
        for j, call in enumerate((ours, baseline)):
            start = time.perf_counter_ns()
            call()
            times[j, i] = time.perf_counter_ns() - start
    return times / 1e3


def paired_us(
    ours: Callable[[], object], baseline: Callable[[], object], rounds: int = 200
) -> tuple[float, float]:
    """Median microseconds of each, called in turn."""
    return tuple(np.median(times_us(ours, baseline, rounds), axis=1))


def latency_rows(name: str, times_ms: np.ndarray, goal: str) -> list[Row]:
    """Median and 99th percentile of times (2, rounds), ours first; the goal is the median's."""
    (mine, worst), (theirs, their_worst) = np.percentile(times_ms, [50, 99], axis=1).T
    return [
        row(f"{name}, p50", mine, theirs, "ms", goal),
        row(f"{name}, p99", worst, their_worst, "ms", "no longer tail"),
    ]
