"""The commands of an episode as a function of time: slowly from the measured pose to the first one, then all."""

from __future__ import annotations

import numpy as np

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_rig.rig import Rig

APPROACH_SHARE = 0.2
"""The way to the first command takes this share of each joint's max_velocity, and at least APPROACH_MIN_S."""
APPROACH_MIN_S = 1.0


def commands_of(episode: EpisodeReader) -> np.ndarray:
    """(T', A) float64: what was sent at each row, from the first row that had a command on; later gaps repeat it.

    A plain ACT file does not know what was sent: there it is /action. EpisodeError when there is no command at all.
    """
    name = "command" if episode.stamps_ns is not None else "action"
    commands = np.array(getattr(episode, name)[: len(episode)], np.float64)
    known = np.flatnonzero(np.isfinite(commands).all(axis=1))
    if not known.size:
        raise EpisodeError(f"{episode.path}: has no row with a command to replay")
    newest = known[np.searchsorted(known, np.arange(known[0], len(commands)), side="right") - 1]
    return commands[newest]


class Trajectory:
    """Actions (A,) at any time since the start, in rig units; linear between rows (ranked ones step)."""

    def __init__(self, rig: Rig, commands: np.ndarray, row_s: float, start: np.ndarray) -> None:
        """`commands` (T, A), one every `row_s`; `start` (A,) is measured, NaN for channels that nobody measures."""
        self._commands, self._row_s = commands, row_s
        self._start = np.where(np.isfinite(start), start, commands[0])
        self._steps = ~np.array([channel.average for channel in rig.action])
        speed = APPROACH_SHARE * np.array([channel.max_velocity for channel in rig.action])
        way_s = np.abs(commands[0] - self._start) / speed
        self.approach_s = max(APPROACH_MIN_S, float(way_s.max()))
        self.duration_s = self.approach_s + (len(commands) - 1) * row_s

    def row(self, elapsed_s: float) -> int:
        """Which row's command is due; 0 on the way to it."""
        row = int(max(0.0, elapsed_s - self.approach_s) / self._row_s + 1e-9)
        return min(row, len(self._commands) - 1)

    def at(self, elapsed_s: float) -> np.ndarray:
        """(A,) the command for this time; the last one from the end on."""
        if elapsed_s < self.approach_s:
            return self._start + (self._commands[0] - self._start) * (elapsed_s / self.approach_s)
        row = self.row(elapsed_s)
        before, after = self._commands[row], self._commands[min(row + 1, len(self._commands) - 1)]
        part = min(1.0, (elapsed_s - self.approach_s) / self._row_s - row)
        return np.where(self._steps, before, before + max(0.0, part) * (after - before))
