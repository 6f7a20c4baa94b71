"""Standard /diagnostics from what RigInputs and CommandGate count anyway."""

from __future__ import annotations

import math
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vla_msgs.msg import StreamStatus
from vla_rig.gate import CommandGate
from vla_rig.inputs import RigInputs

PERIOD_S = 1.0


class RigDiagnostics:
    """Publishes one status per input stream, and one for the gate, once a second of steady time.

    A stream is ERROR when nothing was received, WARN when it is stale or messages were rejected; a
    stopped gate is WARN. Steady time: a simulation that stands still must show, too.
    """

    def __init__(
        self,
        node: Node,
        rig_name: str,
        inputs: RigInputs,
        gate: CommandGate | None = None,
        own: Callable[[], tuple[str, bytes, str, dict]] | None = None,
    ) -> None:
        """`own` gives one more status, the node's own: its name, level, message and values."""
        self._node, self._rig_name, self._inputs, self._gate, self._own = node, rig_name, inputs, gate, own
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self._publish, clock=steady)

    def statuses(self) -> list[DiagnosticStatus]:
        now_ns = self._node.get_clock().now().nanoseconds
        out = [self._stream(stream) for stream in self._inputs.status(now_ns)]
        if self._gate is not None:
            out.append(self._gate_status(self._gate))
        if self._own is not None:
            out.append(self._status(*self._own()))
        return out

    def close(self) -> None:
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _publish(self) -> None:
        array = DiagnosticArray(status=self.statuses())
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _stream(self, stream: StreamStatus) -> DiagnosticStatus:
        level = DiagnosticStatus.WARN if stream.reason else DiagnosticStatus.OK
        if math.isnan(stream.age_s):
            level = DiagnosticStatus.ERROR
        values = {
            "topic": stream.topic,
            "rate_hz": f"{stream.rate_hz:.1f}",
            "age_s": f"{stream.age_s:.3f}",
            "received": stream.received,
            "rejected": stream.rejected,
        }
        return self._status(stream.name, level, stream.reason or "ok", values)

    def _gate_status(self, gate: CommandGate) -> DiagnosticStatus:
        level = DiagnosticStatus.WARN if gate.stopped else DiagnosticStatus.OK
        return self._status("command gate", level, gate.stopped or "open", dict(gate.counts))

    def _status(self, name: str, level: bytes, message: str, values: dict) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: {name}",
            message=message,
            hardware_id=self._rig_name,
            values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )
