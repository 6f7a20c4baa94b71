"""CommandGate: the only door to a command topic, for policy, teleop and replay alike. No ROS here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vla_rig.rig import Rig


@dataclass(frozen=True)
class Passed:
    """What one step through the gate gave."""

    sent: np.ndarray
    """(A,) float64, rig units."""
    interventions: list[str]
    """What was changed: "velocity: left_waist", "finite: right_elbow (held)"."""


class GateClosedError(RuntimeError):
    """The gate was stopped, or cannot know where the robot is; nothing may be sent."""


class CommandGate:
    """Bounds every command: finite, position limits, speed, lead over the measured joint; both arms or none.

    The speed limit starts from the measured pose, so the first commands ramp in from where the
    robot is; so they do after a pause long enough for the robot to have been moved. After `stop`
    nothing passes until `release`. Position limits outrank the lead, speed outranks both. One
    thread steps; vla_rig.commander adds the lock that several threads need.
    """

    def __init__(self, rig: Rig) -> None:
        self._names = rig.action_names
        self._min = np.array([c.min for c in rig.action])
        self._max = np.array([c.max for c in rig.action])
        self._speed = np.array([c.max_velocity for c in rig.action])
        self._has_feedback = np.array([c.feedback is not None for c in rig.action])
        # Where channels nobody measures start from: the rest pose, later what was last sent.
        self._unmeasured = np.array([rig.rest_pose[n] for n in rig.action_names])
        self._lead = np.where(self._has_feedback, self._speed * rig.max_lead_s, np.inf)
        self._dt_max_s = 2.0 * rig.dt_s  # a pause must not turn into one long step
        self._pause_s = max(rig.max_lead_s, self._dt_max_s)
        self._last: np.ndarray | None = None
        self._stopped = ""
        self.counts: Counter[str] = Counter()

    @property
    def last_sent(self) -> np.ndarray | None:
        return None if self._last is None else self._last.copy()

    @property
    def stopped(self) -> str:
        """Why the gate is closed; empty when open."""
        return self._stopped

    def stop(self, reason: str) -> None:
        """Close the gate until release(). Latching: the first reason stays."""
        self._stopped = self._stopped or reason

    def release(self) -> None:
        """Open the gate again, starting over from the measured pose."""
        self._stopped = ""
        self._start_over()

    def step(self, requested: np.ndarray, measured: np.ndarray, dt_s: float) -> Passed:
        """Let one command through, changed where it has to be.

        requested, measured: (A,) in rig units; measured is NaN exactly for channels without feedback.
        dt_s: time since the previous step; negative when the clock was set back.
        Raises GateClosedError when stopped, or when a command that starts over comes without a measured pose.
        """
        if self._stopped:
            raise GateClosedError(f"the command gate is stopped: {self._stopped}")
        requested = self._checked("an action", requested)
        measured = np.where(self._has_feedback, self._checked("a measured pose", measured), 0.0)
        lost = ~np.isfinite(measured)
        if not 0.0 <= dt_s <= self._pause_s:  # NaN, too
            self._start_over()
            dt_s = self._dt_max_s
        if self._last is None:
            if lost.any():
                raise GateClosedError(
                    f"no measured position of {self._listed(lost)}; cannot start from an unknown pose"
                )
            self._last = np.where(self._has_feedback, measured, self._unmeasured)
        bad = ~np.isfinite(requested) | lost
        if bad.any():
            return self._pass(self._last, [self._note("finite", bad)])
        return self._bounded(requested, measured, min(dt_s, self._dt_max_s))

    def hold(self) -> Passed:
        """Repeat the last command. Raises GateClosedError when stopped or when there was none."""
        if self._stopped or self._last is None:
            raise GateClosedError(self._stopped or "nothing has been commanded yet")
        return self._pass(self._last, [self._count("hold")])

    def _bounded(self, requested: np.ndarray, measured: np.ndarray, dt_s: float) -> Passed:
        in_limits = np.clip(requested, self._min, self._max)
        # Limits again: a joint measured far outside them must not pull the command after it.
        near = np.clip(np.clip(in_limits, measured - self._lead, measured + self._lead), self._min, self._max)
        slow = np.clip(near, self._last - self._speed * dt_s, self._last + self._speed * dt_s)
        notes = [
            self._note(kind, changed)
            for kind, changed in (
                ("position", in_limits != requested),
                ("lead", near != in_limits),
                ("velocity", slow != near),
            )
            if changed.any()
        ]
        return self._pass(slow, notes)

    def _start_over(self) -> None:
        if self._last is not None:
            self._unmeasured = self._last
        self._last = None

    def _checked(self, what: str, vector: np.ndarray) -> np.ndarray:
        vector = np.asarray(vector, np.float64)
        if vector.shape != self._min.shape:
            raise ValueError(f"expected {what} of shape {self._min.shape}, got {vector.shape}")
        return vector

    def _pass(self, sent: np.ndarray, notes: list[str]) -> Passed:
        self._last = sent
        return Passed(sent.copy(), notes)

    def _note(self, kind: str, where: np.ndarray) -> str:
        return f"{self._count(kind)}: {self._listed(where)}"

    def _count(self, kind: str) -> str:
        self.counts[kind] += 1
        return kind

    def _listed(self, where: np.ndarray) -> str:
        return ", ".join(n for n, w in zip(self._names, where, strict=True) if w)
