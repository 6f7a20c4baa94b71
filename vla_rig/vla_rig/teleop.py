"""Node `teleop`: leader arms -> gate -> follower arms."""

from __future__ import annotations

import sys
import threading

from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_msgs.msg import RigCommand
from vla_rig.commander import Commander
from vla_rig.diagnostics import RigDiagnostics
from vla_rig.gate import GateClosedError
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError, feedback_reader, leader_reader
from vla_rig.nodes import UserError, describe, run_node, start_worker
from vla_rig.rig_file import RigError, load_rig
from vla_rig.sinks import SinkError
from vla_rig.ticker import Ticker


class Teleop(Node):
    """Mirrors the leaders at the rig's control rate. A stale or broken leader means: hold, and say which."""

    def __init__(self) -> None:
        super().__init__("teleop")
        self.declare_parameter(
            "rig", "aloha", describe("Rig file: a path or the name of an installed rig", read_only=True)
        )
        self.declare_parameter(
            "lockstep",
            False,
            describe("Wait for each tick's joint states (simulated rigs; bounded wait)", read_only=True),
        )
        try:
            rig = load_rig(self.get_parameter("rig").value)
            self._leader, self._feedback = leader_reader(rig), feedback_reader(rig)
            self._commander = Commander(self, rig, RigCommand.SOURCE_TELEOP)
        except (RigError, JointError, SinkError) as error:
            raise UserError(str(error)) from None
        self._lockstep = self.get_parameter("lockstep").value
        self._inputs = RigInputs(self, rig, sources=[*rig.leader_sources, *rig.follower_sources])
        self._diagnostics = RigDiagnostics(self, rig.name, self._inputs, self._commander.gate)
        self._open = False
        self._switch = threading.Lock()  # a stop must not slip between looking and opening
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/start", self._on_start)
        self._ticker = Ticker(self, rig.control_rate_hz)
        self._thread = start_worker(self, self._loop, "teleop loop")

    def _loop(self) -> None:
        for t_ns in self._ticker:
            if self._lockstep:
                self._inputs.wait_due(t_ns, timeout_s=0.5)
            try:
                self._step(t_ns)
            except (JointError, GateClosedError) as error:
                self.get_logger().warning(f"holding: {error}", throttle_duration_sec=2.0)

    def _step(self, t_ns: int) -> None:
        if self._commander.gate.stopped:
            self.get_logger().warning(
                f"stopped: {self._commander.gate.stopped}. Call ~/start to go on", throttle_duration_sec=10.0
            )
            return
        sample = self._inputs.sample(t_ns)
        if not sample.ok:
            self.get_logger().warning(f"holding: {'; '.join(sample.problems)}", throttle_duration_sec=2.0)
            return
        leader, measured = self._leader.read(sample.values), self._feedback.read(sample.values)
        self._open_once()
        self._commander.command(leader, measured, t_ns)

    def _open_once(self) -> None:
        """At the first complete sample. A refusal latches: nobody expects arms to move when the rival leaves."""
        with self._switch:
            if self._open or self._commander.gate.stopped:
                return
            try:
                self._commander.open()
            except GateClosedError as error:
                self._commander.stop(str(error))
                raise
            self._open = True
            self.get_logger().info("leaders and followers are there: mirroring")

    def _on_stop(self, _request, response):
        with self._switch:
            self._commander.stop("stop service")
        response.success, response.message = True, "stopped; followers hold. Call ~/start to go on"
        return response

    def _on_start(self, _request, response):
        try:
            with self._switch:
                self._commander.open()
                self._open = True
        except GateClosedError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, "mirroring the leaders, ramping in from the measured pose"
        return response

    def close(self) -> None:
        self._commander.stop("shutting down")
        self._ticker.stop()
        self._thread.join(timeout=1.0)


def main() -> int:
    return run_node(Teleop, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
