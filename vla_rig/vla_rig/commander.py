"""The gate on a node: gate, command topics and the stamped record of what was asked and sent."""

from __future__ import annotations

import threading
import time

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from vla_msgs.msg import RigCommand
from vla_rig import qos
from vla_rig.gate import CommandGate, GateClosedError, Passed
from vla_rig.rig import Rig
from vla_rig.sinks import UNNAMED, RigSinks

RIVAL_CHECK_S = 1.0
DISCOVERY_S = 1.5
"""A node this young may not have discovered who else commands the rig."""
NEWCOMER_S = 5.0
"""Who has commanded for less than this when a rival turns up gives way."""
PATIENCE_S = 5.0
"""How long the first commander waits for a newcomer to give way before it stops, too."""
NAMES_S = 3.0
"""How long to wait for the names of rivals."""


class Commander:
    """Sends actions to a rig; everything passes the gate and is published on `command` as well.

    Thread-safe. The command topics are advertised from the first open() on, so a node that is
    merely running does not count as one that commands.
    """

    def __init__(self, node: Node, rig: Rig, source: str) -> None:
        """`source` is one of RigCommand's SOURCE_ values.

        Raises SinkError when a message type is not installed.
        """
        self.gate = CommandGate(rig)
        self.sent = 0
        self._node, self._names, self._source = node, rig.action_names, source
        self._sinks = RigSinks(node, rig)
        self._record = node.create_publisher(RigCommand, "command", qos.RECORD)
        self._lock = threading.Lock()  # after stop() has returned, nothing is sent any more
        self._last_ns: int | None = None
        self._dt_s = rig.dt_s
        self._checked_s, self._created_s = 0.0, time.monotonic()
        self._opened_s, self._rival_s = self._created_s, None

    def open(self) -> None:
        """Begin commanding from the measured pose.

        Right after the construction it waits for discovery first (DISCOVERY_S; NAMES_S more for names).
        Raises GateClosedError when somebody else commands this rig.
        """
        self._discover()
        with self._lock:
            self._refuse_rivals()
            self._sinks.open()
            self.gate.release()
            self._last_ns, self._rival_s, self._opened_s = None, None, time.monotonic()

    def stop(self, reason: str) -> None:
        """Close the gate until open(); once this returns no further command leaves."""
        with self._lock:
            self.gate.stop(reason)

    def command(self, requested: np.ndarray, measured: np.ndarray, t_ns: int) -> Passed:
        """Send one action (A,) for time t_ns; see CommandGate.step for shapes and errors."""
        with self._lock:
            self._watch_now_and_then()
            dt_s = self._dt_s if self._last_ns is None else (t_ns - self._last_ns) * 1e-9
            passed = self.gate.step(requested, measured, dt_s)
            self._send(requested, passed, t_ns)
        if passed.interventions:
            self._node.get_logger().info(
                f"gate: {'; '.join(passed.interventions)}", throttle_duration_sec=2.0
            )
        return passed

    def hold(self, t_ns: int) -> None:
        """Repeat the last command; see CommandGate.hold."""
        with self._lock:
            self._watch_now_and_then()
            passed = self.gate.hold()
            self._send(passed.sent, passed, t_ns)

    def _discover(self) -> None:
        time.sleep(max(0.0, self._created_s + DISCOVERY_S - time.monotonic()))
        end_s = time.monotonic() + NAMES_S
        while time.monotonic() < end_s and any(UNNAMED in rival for rival in self._sinks.rivals()):
            time.sleep(0.05)

    def _refuse_rivals(self) -> None:
        self._checked_s = time.monotonic()
        rivals = self._sinks.rivals()
        if rivals:
            raise GateClosedError(
                f"another node commands this rig already: {'; '.join(rivals)}. Stop it first"
            )

    def _watch_now_and_then(self) -> None:
        interval_s = RIVAL_CHECK_S if self._rival_s is None else 0.0
        if time.monotonic() - self._checked_s > interval_s and not self.gate.stopped:
            self._watch_rivals()

    def _watch_rivals(self) -> None:
        """Discovery has no bound, so a newcomer may open unseen. Then it leaves; who was first pauses meanwhile.

        Two newcomers both leave. While a rival is there nothing is sent.
        """
        try:
            self._refuse_rivals()
            self._rival_s = None
        except GateClosedError as error:
            now_s = time.monotonic()
            self._rival_s = self._rival_s or now_s
            newcomer = self._rival_s - self._opened_s < NEWCOMER_S
            if newcomer or now_s - self._rival_s > PATIENCE_S:
                self.gate.stop(str(error))
                self._sinks.close()
            raise

    def _send(self, requested: np.ndarray, passed: Passed, t_ns: int) -> None:
        self._last_ns = t_ns
        stamp = Time(nanoseconds=t_ns).to_msg()
        self._sinks.send(passed.sent, stamp)
        self.sent += 1
        record = RigCommand(source=self._source, names=self._names, interventions=passed.interventions)
        record.header.stamp = stamp
        record.requested = np.asarray(requested, np.float32)
        record.sent = passed.sent.astype(np.float32)
        self._record.publish(record)

    def close(self) -> None:
        """Take the command topics down."""
        self._sinks.close()
        self._node.destroy_publisher(self._record)
