"""Node `policy`: observations -> model -> ensembled chunks -> commands. Wiring only."""

from __future__ import annotations

import sys
import threading

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from vla_model.checkpoint import CheckpointError
from vla_model.policy import Policy
from vla_msgs.srv import SetInstruction
from vla_policy_node import parameters
from vla_policy_node.control import Control
from vla_policy_node.ensemble import Ensembler
from vla_policy_node.inference import Inference
from vla_policy_node.observe import Observer
from vla_policy_node.report import Reporter
from vla_rig.commander import Commander
from vla_rig.gate import GateClosedError
from vla_rig.inputs import RigInputs
from vla_rig.nodes import UserError, run_node
from vla_rig.rig import Rig
from vla_rig.rig_file import RigError, load_rig, rig_from_yaml
from vla_rig.sinks import SinkError


class PolicyNode(LifecycleNode):
    """Lifecycle: configure loads and warms up the model, activate allows commands, deactivate holds."""

    def __init__(self) -> None:
        super().__init__("policy")
        parameters.declare(self)
        self.failure = ""
        self.control: Control | None = None
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(SetInstruction, "~/set_instruction", self._on_set_instruction)
        self._active = False

    def autostart(self) -> None:
        """Configure and activate; UserError with the reason when the node cannot be configured."""
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise UserError(self.failure or "activation failed")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._configure()
        except (CheckpointError, RigError, SinkError, UserError) as error:
            self.failure = str(error)
            self.get_logger().error(self.failure)
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _configure(self) -> None:
        value = {p: self.get_parameter(p).value for p in self._parameters}
        if not value["checkpoint"]:
            raise UserError("parameter 'checkpoint' is empty: give the directory of a trained checkpoint")
        policy = Policy.from_checkpoint(
            value["checkpoint"], _device(value["device"]), value["torch_threads"] or None
        )
        rig = (
            load_rig(value["rig"])
            if value["rig"]
            else rig_from_yaml(policy.rig_text, f"{value['checkpoint']}/rig.yaml")
        )
        _check_fit(policy, rig)
        policy.warm_up()
        cameras = list(policy.camera_names)
        inputs = RigInputs(self, rig, cameras=cameras, sources=rig.follower_sources)
        average = np.array([c.average for c in rig.action])
        ensembler = Ensembler(
            policy.horizon,
            len(rig.action),
            policy.dt_s,
            value["ensemble_decay"],
            value["ensemble_mode"],
            average,
        )
        self.inference = Inference(self, policy, ensembler, inputs, Observer(rig, inputs, cameras))
        self.inference.instruction = value["instruction"]
        commander = Commander(self, rig, "policy")
        self.control = Control(self, rig, inputs, self.inference, commander, value["lockstep_every"])
        self._reporter = Reporter(
            self, rig, policy, inputs, self.inference, self.control, value["status_rate_hz"]
        )
        self._threads = [
            threading.Thread(target=t, daemon=True) for t in (self.inference.run, self.control.run)
        ]
        for thread in self._threads:
            thread.start()
        self.get_logger().info(
            f"{policy.identity}: {len(cameras)} cameras, chunk {policy.horizon} x {len(rig.action)}"
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = True
        self.get_logger().info("ready; call ~/start to command the rig")
        if self.get_parameter("start").value:
            self._start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self.control.stop("deactivated")
        return super().on_deactivate(state)

    def _start(self) -> str:
        """Begin commanding; an empty string, or why not."""
        if not self._active:
            return "the node is not active; activate it first (lifecycle)"
        if not self.inference.instruction:
            return "no instruction: set the parameter 'instruction' or call ~/set_instruction first"
        try:
            self.control.start()
        except GateClosedError as error:
            self.get_logger().error(str(error))
            return str(error)
        return ""

    def _on_start(self, _request, response):
        problem = self._start()
        response.success, response.message = not problem, problem or "started"
        return response

    def _on_stop(self, _request, response):
        if self.control is not None:
            self.control.stop("stop service")
        response.success, response.message = True, "stopped; the rig holds. Call ~/start to go on"
        return response

    def _on_set_instruction(self, request, response):
        text = request.instruction.strip()
        if not text or self.control is None:
            response.message = "the instruction is empty" if not text else "the node is not configured"
            return response
        self.inference.reset(text)
        response.success, response.message = True, f"instruction: {text}"
        return response

    def close(self) -> None:
        if self.control is not None:
            self.control.stop("shut down")


def _device(name: str) -> str | None:
    return None if name == "auto" else name


def _check_fit(policy: Policy, rig: Rig) -> None:
    """A checkpoint must speak the rig's language: same channels in the same order, known cameras, same step."""
    trained = rig_from_yaml(policy.rig_text, "rig.yaml of the checkpoint")
    for kind, ours, theirs in (
        ("state", rig.state_names, trained.state_names),
        ("action", rig.action_names, trained.action_names),
    ):
        if ours != theirs:
            raise UserError(
                f"rig '{rig.name}' has {kind} channels {ours}, the checkpoint was trained on {theirs}"
            )
    unknown = [c for c in policy.camera_names if c not in rig.cameras]
    if unknown:
        raise UserError(f"the checkpoint needs cameras {unknown}; rig '{rig.name}' has {list(rig.cameras)}")
    if abs(policy.dt_s - rig.dt_s) > 1e-6:
        raise UserError(
            f"the checkpoint's steps are {policy.dt_s} s, rig '{rig.name}' is controlled every {rig.dt_s} s"
        )


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
