"""The stream of commands: which action answered which observation."""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np
from rclpy.node import Node

from vla_msgs.msg import RigCommand, StreamStatus
from vla_rig import qos
from vla_rig.align import of_another_clock, too_old
from vla_rig.inputs import REJECTION_SHOWN_NS, StreamCount, stamp_ns
from vla_rig.rig import Rig
from vla_rig.subscribe import EveryMessage, silence

COMMAND = COMMAND_TOPIC = "command"
"""Name of the stream, and its topic."""
IN_FORCE_PERIODS = 5
"""A command older than this many control periods is no longer in force."""
_CLOCK_BACK_NS = 1_000_000_000


class CommandHistory:
    """The last commands by stamp. An observation's command comes after it, so the aligner's view does not fit."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[tuple[int, RigCommand]] = deque(maxlen=capacity)
        self._lock = threading.Lock()

    def push(self, at_ns: int, command) -> bool:
        """Store a command; False when its stamp is not later than the newest one."""
        with self._lock:
            if self._items and at_ns < self._items[-1][0] - _CLOCK_BACK_NS:
                self._items.clear()
            if self._items and at_ns <= self._items[-1][0]:
                return False
            self._items.append((at_ns, command))
            return True

    def answer(self, t_ns: int, period_ns: int):
        """(stamp_ns, command) in force for the observation of t_ns, or None.

        The first command stamped in [t_ns, t_ns + period_ns): what was requested for that observation. When
        there is none, the newest one before: it was still in force.
        """
        before = None
        with self._lock:
            for at_ns, command in self._items:
                if at_ns >= t_ns + period_ns:
                    break
                before = (at_ns, command)
                if at_ns >= t_ns:
                    break
        return before

    @property
    def newest_ns(self) -> int | None:
        with self._lock:
            return self._items[-1][0] if self._items else None


def command_problem(message: RigCommand, names: list[str]) -> str:
    """Why a command cannot be used for a rig with these action names; empty when it can."""
    if list(message.names) != names:
        return f"names are {list(message.names)}, the rig's actions are {names}"
    if not len(message.requested) == len(message.sent) == len(names):
        return f"{len(message.requested)} requested and {len(message.sent)} sent values"
    if not (np.isfinite(message.requested).all() and np.isfinite(message.sent).all()):
        return "requested or sent values are not finite"
    return ""


class CommandInput:
    """Subscribes to `command` (vla_msgs/RigCommand) of a rig; callbacks only store."""

    def __init__(self, node: Node, rig: Rig) -> None:
        self._log, self._clock, self._names = node.get_logger(), node.get_clock(), rig.action_names
        self._limit_s = IN_FORCE_PERIODS / rig.control_rate_hz
        self.history = CommandHistory(capacity=round(2 * rig.control_rate_hz))
        self.count = StreamCount(COMMAND_TOPIC)
        self._node = node
        depth = qos.RECORD.depth
        self._subscription = EveryMessage(
            node, RigCommand, COMMAND_TOPIC, self._store, depth, self.count.add_lost
        )

    def _store(self, message: RigCommand) -> None:
        self.count.received += 1
        self.count.recent_ns.append(self._clock.now().nanoseconds)
        problem = command_problem(message, self._names)
        if problem:
            self._reject(problem)
        elif not self.history.push(stamp_ns(message.header.stamp), message):
            self._reject("stamp is not later than the previous one (do two nodes command this rig?)")

    def _reject(self, reason: str) -> None:
        self.count.rejected += 1
        self.count.reason, self.count.rejected_ns = reason, self._clock.now().nanoseconds
        self._log.warning(f"{COMMAND_TOPIC}: {reason}", throttle_duration_sec=5.0)

    def status(self, now_ns: int) -> StreamStatus:
        newest_ns = self.history.newest_ns
        age_s = float("nan") if newest_ns is None else (now_ns - newest_ns) * 1e-9
        return StreamStatus(
            name=COMMAND,
            topic=COMMAND_TOPIC,
            received=self.count.received,
            rejected=self.count.rejected,
            lost=self.count.lost,
            rate_hz=self.count.rate_hz(now_ns),
            age_s=age_s,
            reason=self._reason(age_s, now_ns),
        )

    def _reason(self, age_s: float, now_ns: int) -> str:
        """What is wrong now; empty when healthy. As of any other stream (RigInputs)."""
        if self.count.rejected and now_ns - self.count.rejected_ns < REJECTION_SHOWN_NS:
            return self.count.reason
        if age_s <= self._limit_s and not of_another_clock(age_s):
            return ""
        why = silence(self._node, COMMAND_TOPIC, RigCommand)
        found = "nothing received" if math.isnan(age_s) else too_old(age_s, self._limit_s)
        return f"{found}: {why}" if why else found
