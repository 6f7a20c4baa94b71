"""The words of one episode: its instruction, and what is being done at which moment. No ROS here."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from vla_recorder.episode.layout import EpisodeError

MAX_LENGTH = 4000
"""Characters of an instruction or sub-step: every row, log line and status message carries it."""


def check_length(text: str) -> str:
    """The text itself. Raises EpisodeError when it is too long."""
    if len(text) > MAX_LENGTH:
        raise EpisodeError(
            f"a text of {len(text)} characters is too long, at most {MAX_LENGTH}: '{text[:40]}...'"
        )
    return text


class Timeline:
    """A text that changes at times."""

    def __init__(self, text: str) -> None:
        self._first = text
        self._changes: list[tuple[int, str]] = []
        self._lock = threading.Lock()  # an operator changes it while rows are made

    def set(self, text: str, now_ns: int) -> None:
        with self._lock:
            self._changes.append((now_ns, text))

    def at(self, t_ns: int) -> str:
        with self._lock:
            return next((text for since_ns, text in reversed(self._changes) if since_ns <= t_ns), self._first)

    @property
    def current(self) -> str:
        with self._lock:
            return self._changes[-1][1] if self._changes else self._first


class Texts:
    """Instruction and sub-steps of one episode; of the sub-steps known ahead, the first is in force at the start."""

    def __init__(self, instruction: str, substeps: Sequence[str] = ()) -> None:
        self.substeps = [check_length(text) for text in substeps if text]
        self._instruction = Timeline(instruction)
        self._substep = Timeline(self.substeps[0] if self.substeps else "")
        self._index = 0

    @property
    def instruction(self) -> str:
        return self._instruction.current

    @property
    def substep(self) -> str:
        """What is being done now; empty when nothing finer than the instruction is known."""
        return self._substep.current

    def at(self, t_ns: int) -> str:
        """What was being done at t_ns: the sub-step, or else the instruction, in force."""
        return self._substep.at(t_ns) or self._instruction.at(t_ns)

    def set_instruction(self, text: str, now_ns: int) -> None:
        self._instruction.set(text, now_ns)

    def set_substep(self, text: str, now_ns: int) -> None:
        """In force from now_ns on. One of those known ahead moves the place among them."""
        self._substep.set(text, now_ns)
        if text in self.substeps:
            self._index = self.substeps.index(text)

    def choose_substep(self, index: int, now_ns: int) -> bool:
        """The index-th of those known ahead, from 0; False when there is none such."""
        if not 0 <= index < len(self.substeps):
            return False
        self._substep.set(self.substeps[index], now_ns)
        self._index = index
        return True

    def next_substep(self, now_ns: int) -> bool:
        """The next of those known ahead; False after the last."""
        return self.choose_substep(self._index + 1, now_ns)
