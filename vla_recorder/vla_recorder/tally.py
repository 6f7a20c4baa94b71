"""Counts what went well and what did not, over the rows of a recording or of a file."""

from __future__ import annotations

from collections import Counter

import numpy as np


class Tally:
    """Per stream: rows that repeated a message, rows whose message was stale, largest age. No ROS here."""

    def __init__(self, stream_names: list[str]) -> None:
        N = len(stream_names)
        self.stream_names = stream_names
        self.rows = 0
        self.interventions: Counter[str] = Counter()  # kind of gate intervention -> times
        self._repeated = np.zeros(N, int)
        self._stale = np.zeros(N, int)
        self._max_age_s = np.full(N, np.nan)

    def add(
        self, fresh: np.ndarray, repeated: np.ndarray, ages_s: np.ndarray, interventions: list[str]
    ) -> None:
        """Add n rows: fresh, repeated (n, N) bool, ages_s (n, N), interventions as the gate words them."""
        self.rows += len(fresh)
        self._stale += (~fresh).sum(axis=0)
        self._repeated += repeated.sum(axis=0)
        self._max_age_s = np.fmax.reduce([self._max_age_s, *ages_s])
        self.interventions.update(text.split(":")[0] for text in interventions)

    def streams(self) -> dict[str, dict]:
        return {
            name: {
                "repeated": int(self._repeated[i]),
                "stale": int(self._stale[i]),
                "max_age_s": float(self._max_age_s[i]),
            }
            for i, name in enumerate(self.stream_names)
        }
