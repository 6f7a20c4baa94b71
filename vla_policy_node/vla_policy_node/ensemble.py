"""Temporal ensembling in time: chunks stamped by their observations -> the action for any moment.

ACT (Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware",
section IV-A) averages, at each step, all chunks that predicted it, with weights exp(-m * i), i = 0
for the oldest. There the chunks sit in a step-indexed buffer, which assumes one inference per step
and no latency. Here a chunk is H actions at t0 + k * dt, t0 = the stamp of its observation; at
time tau every chunk that covers tau contributes its linear interpolation at tau with the same
weights. With one inference per step and no latency the result is ACT's; slow, late, irregular and
dropped inferences are handled by the same formula, and the order of arrival never matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Mode = Literal["temporal", "newest", "open_loop"]
MODES = ("temporal", "newest", "open_loop")


@dataclass(frozen=True)
class Plan:
    """The ensembled future from a moment on."""

    t_ns: int
    """Time of row 0."""
    values: np.ndarray
    """(K, A) float64, rows dt apart; K = 0 when no chunk covers t_ns."""
    stamps_ns: list[int]
    """Observation stamps of the chunks behind row 0, oldest first."""
    weights: np.ndarray
    """Their normalised weights."""


class Ensembler:
    """Keeps the newest `capacity` chunks and answers `action(tau)` and `plan(tau)`. Not thread-safe by itself."""

    def __init__(
        self,
        horizon: int,
        dim: int,
        dt_s: float,
        decay: float = 0.01,
        mode: Mode = "temporal",
        average: np.ndarray | None = None,
        capacity: int | None = None,
    ) -> None:
        """
        Args:
            horizon, dim: shape (H, A) of a chunk.
            dt_s: time between its rows.
            decay: ACT's m; 0 weighs all chunks alike, negative values favour the newest.
            mode: "temporal" ensembles; "newest" uses the newest chunk alone; "open_loop" plays a
                chunk to its end before it takes the newest one.
            average: (A,) bool, False for channels whose mean is meaningless; there the newest
                chunk's nearest earlier row decides.
            capacity: how many chunks are kept; the default, H, is what one inference per step can use.
        """
        if mode not in MODES:
            raise ValueError(f"mode '{mode}' is not one of {', '.join(MODES)}")
        self._shape, self._dt_ns = (horizon, dim), round(dt_s * 1e9)
        self._decay, self._mode = decay, mode
        self._hold = np.zeros(dim, bool) if average is None else ~np.asarray(average, bool)
        self._stamps = np.zeros(0, np.int64)  # ascending
        self._slots = np.zeros(0, np.intp)  # self._values[self._slots[r]] is the chunk of rank r
        self._values = np.zeros((capacity or horizon, horizon, dim))
        self._playing_ns: int | None = None

    def reset(self) -> None:
        """Forget all chunks (new instruction, new episode)."""
        self._stamps, self._slots = self._stamps[:0], self._slots[:0]
        self._playing_ns = None

    def add(self, stamp_ns: int, chunk: np.ndarray) -> None:
        """Add a chunk (H, A) whose row 0 belongs to stamp_ns. A second chunk for a stamp replaces the first.

        Raises ValueError for a wrong shape or a value that is not finite.
        """
        if chunk.shape != self._shape:
            raise ValueError(f"expected a chunk of shape {self._shape}, got {chunk.shape}")
        if not np.isfinite(chunk).all():
            raise ValueError("the chunk holds values that are not finite")
        rank = int(np.searchsorted(self._stamps, stamp_ns))
        if rank < len(self._stamps) and self._stamps[rank] == stamp_ns:
            self._values[self._slots[rank]] = chunk
            return
        if len(self._slots) < len(self._values):
            slot = len(self._slots)
        elif rank == 0:
            return  # older than all of a full set
        else:
            slot, rank = self._slots[0], rank - 1
            self._stamps, self._slots = self._stamps[1:], self._slots[1:]
        self._values[slot] = chunk
        self._stamps = np.insert(self._stamps, rank, stamp_ns)
        self._slots = np.insert(self._slots, rank, slot)

    def action(self, tau_ns: int) -> np.ndarray | None:
        """The action (A,) float64 for time tau_ns, or None when no chunk covers it."""
        ranks = self._active(tau_ns)
        return None if ranks.size == 0 else self._rows(ranks, np.array([tau_ns]))[0]

    def plan(self, tau_ns: int) -> Plan:
        """The actions for tau, tau + dt, ... up to the last covered step."""
        ranks = self._active(tau_ns)
        if ranks.size == 0:
            return Plan(tau_ns, np.zeros((0, self._shape[1])), [], np.zeros(0))
        steps = (self._end_ns(ranks[-1]) - tau_ns) // self._dt_ns + 1
        taus = tau_ns + self._dt_ns * np.arange(steps)
        return Plan(tau_ns, self._rows(ranks, taus), self._stamps[ranks].tolist(), self._weights(len(ranks)))

    def left_s(self, tau_ns: int) -> float:
        """How long the plan still lasts after tau_ns; 0 when it has run out."""
        ranks = self._active(tau_ns)
        return 0.0 if ranks.size == 0 else (self._end_ns(ranks[-1]) - tau_ns) * 1e-9

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest chunk's observation."""
        return int(self._stamps[-1]) if len(self._stamps) else None

    @property
    def nbytes(self) -> int:
        """Memory of the chunks kept."""
        return self._values.nbytes

    def _end_ns(self, rank: int) -> int:
        return int(self._stamps[rank]) + (self._shape[0] - 1) * self._dt_ns

    def _active(self, tau_ns: int) -> np.ndarray:
        """Ranks of the chunks that decide at tau_ns, oldest first."""
        span_ns = (self._shape[0] - 1) * self._dt_ns
        ranks = np.flatnonzero((self._stamps <= tau_ns) & (tau_ns <= self._stamps + span_ns))
        if self._mode == "temporal" or ranks.size == 0:
            return ranks
        if self._mode == "open_loop":
            playing = ranks[self._stamps[ranks] == self._playing_ns]
            if playing.size:
                return playing
            self._playing_ns = int(self._stamps[ranks[-1]])
        return ranks[-1:]

    def _weights(self, count: int) -> np.ndarray:
        weights = np.exp(-self._decay * np.arange(count))
        return weights / weights.sum()

    def _rows(self, ranks: np.ndarray, taus_ns: np.ndarray) -> np.ndarray:
        """(K, A): the weighted mean over chunks at each of K times; a chunk that has ended drops out."""
        at = (taus_ns[:, None] - self._stamps[ranks]) / self._dt_ns  # (K, N) position in each chunk
        last = self._shape[0] - 1
        covered = at <= last
        # ACT ranks only the chunks that cover a step, and the ones that drop out are the oldest.
        order = np.cumsum(covered, axis=1) - 1
        weights = np.where(covered, np.exp(-self._decay * order), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        low = np.minimum(at.astype(np.intp), last)
        blend = np.where(covered, at - low, 0.0)
        high = np.minimum(low + 1, last)
        slots = self._slots[ranks]
        below = self._values[slots, low]  # (K, N, A)
        if blend.any():
            below = below + blend[:, :, None] * (self._values[slots, high] - below)
        rows = np.einsum("kn,kna->ka", weights, below)
        if self._hold.any():
            rows[:, self._hold] = self._values[slots[-1], low[:, -1]][:, self._hold]
        return rows
