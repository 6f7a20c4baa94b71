"""Counts what went well and what did not, over the rows of a recording or of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vla_recorder.episode.layout import NO_STAMP, Row

RATIO_EDGES = (0.25, 0.5, 0.75, 0.9, 1.1, 1.5, 2.5, 4.0, 8.0, 16.0)
"""Where the bins of an interval histogram meet, as multiples of the expected interval."""


class Tally:
    """Streaming counts over rows, in memory that grows with the streams only. No ROS here.

    An interval is the time between the stamps of two messages that rows used one after the other. A stream
    of period p, seen by rows every dt, is expected to show max(p, dt). Where two messages can fall between two rows
    (p < 1.5 dt) the sound stream shows up to dt + p, else p; half a period more than that is a gap.
    """

    def __init__(
        self, stream_names: Sequence[str], row_period_s: float, rates_hz: Mapping[str, float]
    ) -> None:
        """`rates_hz` has the nominal rates of the streams (N) that have one; others are never said to have gaps."""
        self.stream_names = list(stream_names)
        self.rows = 0
        self.late_rows = 0
        self.intervened_rows = 0
        self.interventions: Counter[str] = Counter()  # kind of gate intervention -> times
        N = len(self.stream_names)
        period_s = np.array([1.0 / rates_hz[n] if n in rates_hz else 0.0 for n in self.stream_names])
        sound_s = np.where(period_s < 1.5 * row_period_s, row_period_s + period_s, period_s)
        self._expected_ns = np.round(1e9 * np.maximum(period_s, row_period_s))
        self._gap_ns = np.where(period_s > 0, 1e9 * (sound_s + 0.5 * period_s), np.inf)
        self._repeated = np.zeros(N, int)
        self._stale = np.zeros(N, int)
        self._gaps = np.zeros(N, int)
        self._intervals = np.zeros((N, len(RATIO_EDGES) + 1), int)
        self._max_interval_ns = np.zeros(N, np.int64)
        self._max_age_s = np.full(N, np.nan)
        self._last_ns = np.full(N, NO_STAMP, np.int64)

    def add_row(self, row: Row, late: bool = False) -> None:
        """`late`: the row was taken at the end of patience."""
        self.add(
            row.stream_stamps_ns[None],
            row.fresh[None],
            row.repeated[None],
            row.ages_s()[None],
            [row.interventions],
        )
        self.late_rows += late

    def add(
        self,
        stamps_ns: np.ndarray,
        fresh: np.ndarray,
        repeated: np.ndarray,
        ages_s: np.ndarray,
        interventions: Sequence[Sequence[str]],
    ) -> None:
        """Add n rows: stamps_ns (n, N) int64, fresh, repeated (n, N) bool, ages_s (n, N), interventions as worded."""
        self.rows += len(fresh)
        self._stale += (~fresh).sum(axis=0)
        self._repeated += repeated.sum(axis=0)
        self._max_age_s = np.fmax.reduce([self._max_age_s, *ages_s])
        for entries in interventions:
            self.intervened_rows += bool(entries)
            self.interventions.update(text.split(":")[0] for text in entries)
        self._add_intervals(stamps_ns)

    def _add_intervals(self, stamps_ns: np.ndarray) -> None:
        seen_ns = np.concatenate([self._last_ns[None], stamps_ns])
        self._last_ns = seen_ns[-1]
        both = (seen_ns[:-1] != NO_STAMP) & (seen_ns[1:] != NO_STAMP)
        rows, columns = np.nonzero(both & (seen_ns[1:] > seen_ns[:-1]))  # an equal stamp is a repeat
        interval_ns = seen_ns[rows + 1, columns] - seen_ns[rows, columns]
        bins = np.searchsorted(RATIO_EDGES, interval_ns / self._expected_ns[columns], side="right")
        np.add.at(self._intervals, (columns, bins), 1)
        np.add.at(self._gaps, columns, interval_ns > self._gap_ns[columns])
        np.maximum.at(self._max_interval_ns, columns, interval_ns)

    def streams(self) -> dict[str, dict]:
        """Per stream: rows that repeated or were stale, the largest age, intervals by bin, the longest, gaps."""
        return {
            name: {
                "repeated": int(self._repeated[i]),
                "stale": int(self._stale[i]),
                "max_age_s": float(self._max_age_s[i]),
                "expected_interval_s": float(self._expected_ns[i] * 1e-9),
                "intervals": self._intervals[i].tolist(),
                "max_interval_s": float(self._max_interval_ns[i] * 1e-9),
                "gaps": int(self._gaps[i]),
            }
            for i, name in enumerate(self.stream_names)
        }
