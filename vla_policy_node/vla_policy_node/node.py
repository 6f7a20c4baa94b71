"""Node `policy`: observations -> model -> ensembled chunks -> commands. Lifecycle and services only."""

from __future__ import annotations

import sys

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from vla_model.checkpoint import CheckpointError
from vla_model.normalize import StatisticsError
from vla_msgs.srv import SetInstruction
from vla_policy_node import parameters
from vla_policy_node.pipeline import Pipeline
from vla_rig.gate import GateClosedError
from vla_rig.nodes import UserError, run_node
from vla_rig.rig_file import RigError
from vla_rig.sinks import SinkError


class PolicyNode(LifecycleNode):
    """Configure loads and warms up the model, activate allows commands, deactivate holds, cleanup unloads."""

    def __init__(self) -> None:
        super().__init__("policy")
        parameters.declare(self)
        self.failure = ""
        self._pipeline: Pipeline | None = None
        self._active = False
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(SetInstruction, "~/set_instruction", self._on_set_instruction)

    def autostart(self) -> None:
        """Configure and activate; UserError with the reason when the node cannot be configured."""
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise UserError(self.failure)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._pipeline = Pipeline(self, parameters.values(self))
        except (CheckpointError, StatisticsError, RigError, SinkError, UserError) as error:
            self.failure = str(error)
            self.get_logger().error(self.failure)
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = True
        self.get_logger().info("ready; call ~/start to command the rig")
        if self.get_parameter("start").value:
            self._start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self._pipeline.control.stop("deactivated")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_shutdown(state)

    def close(self) -> None:
        """Stop commanding and unload the model."""
        self._active = False
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def _start(self) -> str:
        """Begin commanding; an empty string, or why not."""
        if not self._active:
            return "the node is not active; activate it first (lifecycle)"
        if not self._pipeline.inference.instruction:
            return "no instruction: set the parameter 'instruction' or call ~/set_instruction first"
        try:
            self._pipeline.control.start()
        except GateClosedError as error:
            self.get_logger().error(str(error))
            return str(error)
        return ""

    def _on_start(self, _request, response):
        problem = self._start()
        response.success, response.message = not problem, problem or "started"
        return response

    def _on_stop(self, _request, response):
        if self._pipeline is not None:
            self._pipeline.control.stop("stop service")
        response.success, response.message = True, "stopped; the rig holds. Call ~/start to go on"
        return response

    def _on_set_instruction(self, request, response):
        text = request.instruction.strip()
        if not text or self._pipeline is None:
            blank = "the instruction is blank: say what the robot should do"
            response.message = "the node is not configured" if text else blank
            return response
        self._pipeline.inference.reset(text)
        response.success, response.message = True, f"instruction: {text}"
        return response


def make() -> PolicyNode:
    """Create the node and, unless told otherwise, configure and activate it."""
    node = PolicyNode()
    if node.get_parameter("autostart").value:
        try:
            node.autostart()
        except UserError:
            node.destroy_node()
            raise
    return node


def main() -> int:
    return run_node(make, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
