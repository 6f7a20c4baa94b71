"""The start gesture of ALOHA: squeeze every leader gripper shut and hold it a moment. No ROS here."""

from __future__ import annotations

from collections.abc import Sequence

from vla_rig.joints import VectorReader, leader_reader
from vla_rig.rig import Rig

CLOSED, OPEN = 0.2, 0.5
"""Of a gripper's range, 0 closed .. 1 open.

ALOHA's own scripts start below 0.06 to 0.39 of it, depending on the generation (Interbotix/aloha and
tonyzhaozh/aloha record_episodes.py with their gripper constants).
"""


class StartGesture:
    """True once when all grippers, each seen open before, have been closed together for `hold_s`."""

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self.reset()

    def reset(self) -> None:
        """Every gripper must be opened again first."""
        self._opened: list[bool] = []
        self._closed_since_s: float | None = None

    def update(self, openings: Sequence[float] | None, now_s: float) -> bool:
        """`openings`: all grippers at now_s, 0 closed .. 1 open; None when they are not known, which breaks a hold."""
        if openings is None:
            self._closed_since_s = None
            return False
        before = self._opened or [False] * len(openings)
        self._opened = [was or opening > OPEN for was, opening in zip(before, openings, strict=True)]
        if not all(self._opened) or not all(opening < CLOSED for opening in openings):
            self._closed_since_s = None
            return False
        if self._closed_since_s is None:
            self._closed_since_s = now_s
        if now_s - self._closed_since_s < self.hold_s:
            return False
        self.reset()
        return True


def gripper_reader(rig: Rig) -> VectorReader | None:
    """Reads the opening of every leader gripper, 0 closed .. 1 open; None for a rig without leader grippers."""
    grippers = [channel for channel in rig.action if channel.leader is not None and channel.leader.range]
    if not grippers:
        return None
    return leader_reader(rig.model_copy(update={"action": grippers}))
