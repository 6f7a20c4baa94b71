"""Everything between the rig's topics in and the rig's topics out, put together from a checkpoint."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

import numpy as np
import torch
from rclpy.node import Node

from vla_model.policy import Policy
from vla_msgs.msg import PolicyStatus, RigCommand
from vla_policy_node.control import Control
from vla_policy_node.ensemble import Ensembler
from vla_policy_node.inference import Inference
from vla_policy_node.report import Reporter
from vla_rig.commander import Commander
from vla_rig.inputs import RigInputs
from vla_rig.nodes import UserError
from vla_rig.rig import Rig
from vla_rig.rig_file import load_rig, rig_from_yaml


class Pipeline:
    """inputs -> inference (own thread) -> ensembler -> control (own thread) -> commander."""

    def __init__(self, node: Node, value: dict) -> None:
        """Load the checkpoint and join it to the rig.

        Raises CheckpointError, StatisticsError, RigError, SinkError or UserError, each naming what does not fit.
        """
        if not value["checkpoint"]:
            raise UserError("parameter 'checkpoint' is empty: give the directory of a trained checkpoint")
        instruction = _instruction(value["instruction"])
        if value["torch_threads"]:
            torch.set_num_threads(value["torch_threads"])
        policy = Policy.from_checkpoint(
            value["checkpoint"], None if value["device"] == "auto" else value["device"]
        )
        trained = _trained_rig(policy, value["checkpoint"])
        rig = load_rig(value["rig"]) if value["rig"] else trained
        _check_fit(policy, trained, rig)
        cameras = list(policy.camera_names)
        sizes = {name: (rig.cameras[name].height, rig.cameras[name].width) for name in cameras}
        policy.warm_up(image_size=sizes, **({"instruction": instruction} if instruction else {}))
        self._commander = Commander(node, rig, RigCommand.SOURCE_POLICY)
        self._inputs = RigInputs(node, rig, cameras=cameras, sources=rig.follower_sources)
        ensembler = Ensembler(
            policy.horizon,
            len(rig.action),
            policy.dt_s,
            decay=value["ensemble_decay"],
            mode=value["ensemble_mode"],
            average=np.array([c.average for c in rig.action]),
        )
        self.inference = Inference(node, rig, policy, ensembler, self._inputs)
        self.inference.instruction = instruction
        self.control = Control(
            node, rig, self._inputs, self.inference, self._commander, value["lockstep_every"]
        )
        self._reporter = Reporter(
            node, rig, policy, self._inputs, self.inference, self.control, value["status_rate_hz"]
        )
        self._threads = [
            threading.Thread(target=self._guard, args=(node, run), daemon=True)
            for run in (self.inference.run, self.control.run)
        ]
        for thread in self._threads:
            thread.start()
        size = f"{policy.horizon} x {len(rig.action)}"
        node.get_logger().info(f"{policy.identity}: cameras {', '.join(cameras)}; chunk {size}")

    def _guard(self, node: Node, run: Callable[[], None]) -> None:
        """A worker that dies must stop the robot and say so, not leave it to a silent thread."""
        try:
            run()
        except Exception as error:
            self.control.stop(f"internal error: {error}", PolicyStatus.STATE_FAULT)
            node.get_logger().fatal(f"{run.__qualname__}:\n{traceback.format_exc()}")

    def close(self) -> None:
        """Stop commanding, end the threads, take the topics down."""
        self.control.stop("shut down")
        self.inference.close()
        self.control.close()
        for thread in self._threads:
            thread.join(timeout=2.0)
        for part in (self._reporter, self._inputs, self._commander):
            part.close()


def _instruction(text: str) -> str:
    """Without white space around it. Empty: none yet. UserError when there is nothing but white space."""
    if text and not text.strip():
        raise UserError(
            "parameter 'instruction' is blank: say what the robot should do, or leave it empty and call "
            "~/set_instruction later"
        )
    return text.strip()


def _trained_rig(policy: Policy, checkpoint: str) -> Rig:
    """The rig that the checkpoint was trained on. UserError for a released folder that does not know one."""
    if not policy.rig_text.strip():
        raise UserError(
            f"checkpoint {checkpoint} has no rig.yaml to say what its channels mean; `convert` with --rig makes a "
            "checkpoint that has one"
        )
    return rig_from_yaml(policy.rig_text, f"{checkpoint}/rig.yaml")


def _check_fit(policy: Policy, trained: Rig, rig: Rig) -> None:
    """A checkpoint must speak the rig's language: same channels in the same order, known cameras, same step."""
    for kind, ours, theirs in (
        ("state", rig.state_names, trained.state_names),
        ("action", rig.action_names, trained.action_names),
    ):
        if ours != theirs:
            raise UserError(
                f"rig '{rig.name}' has {kind} channels {ours}; the checkpoint was trained on {theirs}"
            )
    unknown = [c for c in policy.camera_names if c not in rig.cameras]
    if unknown:
        raise UserError(f"the checkpoint needs cameras {unknown}; rig '{rig.name}' has {list(rig.cameras)}")
    if abs(policy.dt_s - rig.dt_s) > 1e-6:
        raise UserError(
            f"the checkpoint's steps are {policy.dt_s:g} s; rig '{rig.name}' is controlled every {rig.dt_s:g} s"
        )
