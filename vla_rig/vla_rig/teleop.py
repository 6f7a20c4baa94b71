"""Node `teleop`: leader arms -> gate -> follower arms."""

from __future__ import annotations

import sys
import threading

from rclpy.node import Node
from std_srvs.srv import Trigger

from vla_msgs.msg import RigCommand
from vla_rig.commander import Commander
from vla_rig.gate import GateClosedError
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError, feedback_reader, leader_reader
from vla_rig.nodes import UserError, describe, run_node
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
        self._open = False
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/start", self._on_start)
        self._ticker = Ticker(self, rig.control_rate_hz)
        self._thread = threading.Thread(target=self._loop, name="teleop", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        for t_ns in self._ticker:
            if self._lockstep:
                self._inputs.wait_due(t_ns, timeout_s=0.5)
            try:
                self._step(t_ns)
            except (JointError, GateClosedError) as error:
                self.get_logger().warning(f"holding: {error}", throttle_duration_sec=2.0)

    def _step(self, t_ns: int) -> None:
        sample = self._inputs.sample(t_ns)
        if not sample.ok:
            self.get_logger().warning(f"holding: {'; '.join(sample.problems)}", throttle_duration_sec=2.0)
            return
        if not self._open and not self._commander.gate.stopped:
            self._commander.open()
            self._open = True
            self.get_logger().info("leaders and followers are there: mirroring")
        self._commander.command(self._leader.read(sample.values), self._feedback.read(sample.values), t_ns)

    def _on_stop(self, _request, response):
        self._commander.stop("stop service")
        self._open = False
        response.success, response.message = True, "stopped; followers hold. Call ~/start to go on"
        return response

    def _on_start(self, _request, response):
        self._commander.gate.release()
        response.success, response.message = True, "mirroring the leaders, ramping in from the measured pose"
        return response

    def close(self) -> None:
        self._thread.join(timeout=1.0)


def main() -> int:
    return run_node(Teleop, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
