"""JointState messages -> vectors in the rig's order and units, by joint name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import JointState

from vla_rig.rig import JointRef, Quantity, Rig


class JointError(ValueError):
    """A joint-state message that cannot be used; the message names the topic and the joint."""


@dataclass(frozen=True)
class _Entry:
    source: str
    joint: str
    quantity: Quantity
    offset: float
    gain: float


class VectorReader:
    """Reads one vector, such as qpos, out of the newest message of each source."""

    def __init__(self, rig: Rig, entries: list[_Entry | None], optional: bool = False) -> None:
        """`optional` quantities that a driver does not publish, or publishes as NaN, read as NaN.

        An entry of None (a channel nobody measures) reads as NaN.
        """
        self._topics = {name: source.topic for name, source in rig.joint_sources.items()}
        self._entries = entries
        self._optional = optional
        self._index: dict[tuple[str, ...], dict[str, int]] = {}

    def read(self, messages: Mapping[str, JointState]) -> np.ndarray:
        """(N,) float32. Raises JointError for a missing joint, a short array or a value that is not finite."""
        return np.array([np.nan if e is None else self._read(e, messages) for e in self._entries], np.float32)

    def _read(self, entry: _Entry, messages: Mapping[str, JointState]) -> float:
        topic, message = self._topics[entry.source], messages.get(entry.source)
        if message is None:
            raise JointError(f"{topic}: nothing received")
        names = tuple(message.name)
        index = self._index.get(names)
        if index is None:
            index = self._index[names] = {name: i for i, name in enumerate(names)}
        if entry.joint not in index:
            raise JointError(f"{topic}: joint '{entry.joint}' is missing; the message has {list(names)}")
        values = getattr(message, entry.quantity)
        if not len(values) and self._optional:
            return np.nan
        if len(values) != len(names):
            raise JointError(f"{topic}: {len(names)} names but {len(values)} values of {entry.quantity}")
        value = values[index[entry.joint]]
        if not math.isfinite(value) and not (self._optional and math.isnan(value)):
            raise JointError(f"{topic}: {entry.quantity} of joint '{entry.joint}' is {value}")
        return (value - entry.offset) * entry.gain


def state_reader(rig: Rig) -> VectorReader:
    """qpos: the state vector (S,)."""
    return VectorReader(rig, [_entry(rig, c, c.quantity) for c in rig.state])


def velocity_reader(rig: Rig) -> VectorReader:
    """Qvel (S,): velocity of each state channel's joint, in its unit per second."""
    return VectorReader(rig, [_entry(rig, c, "velocity") for c in rig.state], optional=True)


def effort_reader(rig: Rig) -> VectorReader:
    """Effort (S,): as the driver reports it (ALOHA: mA)."""
    entries = [_Entry(c.source, c.effort_joint or c.joint, "effort", 0.0, 1.0) for c in rig.state]
    return VectorReader(rig, entries, optional=True)


def feedback_reader(rig: Rig) -> VectorReader:
    """Where the commanded joints are (A,), in the action's units; NaN for channels nobody measures."""
    return VectorReader(rig, [_entry(rig, c.feedback, c.quantity) for c in rig.action])


def leader_reader(rig: Rig) -> VectorReader:
    """The leader's pose as an action (A,)."""
    without = [c.name for c in rig.action if c.leader is None]
    if without:
        raise JointError(
            f"rig '{rig.name}' maps no leader joint to {', '.join(without)}: "
            "it cannot be teleoperated by leader arms"
        )
    return VectorReader(rig, [_entry(rig, c.leader, c.quantity) for c in rig.action])


def _entry(rig: Rig, ref: JointRef | None, quantity: Quantity) -> _Entry | None:
    if ref is None:
        return None
    offset, gain = rig.scale(ref.range)
    return _Entry(ref.source, ref.joint, quantity, offset if quantity == "position" else 0.0, gain)
