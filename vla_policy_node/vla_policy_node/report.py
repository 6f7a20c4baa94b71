"""What the policy node tells the world: ~/status, ~/action_chunk and /diagnostics."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.time import Time

from vla_model.policy import Policy
from vla_msgs.msg import ActionChunk, PolicyStatus
from vla_policy_node.control import Control
from vla_policy_node.ensemble import Plan
from vla_policy_node.inference import Inference
from vla_rig import qos
from vla_rig.diagnostics import RigDiagnostics
from vla_rig.inputs import RigInputs
from vla_rig.rig import Rig

_LEVELS = {
    PolicyStatus.STATE_HOLDING: DiagnosticStatus.WARN,
    PolicyStatus.STATE_FAULT: DiagnosticStatus.ERROR,
}


class Reporter:
    """Publishes status at a steady wall rate and each plan as it is followed."""

    def __init__(
        self,
        node: Node,
        rig: Rig,
        policy: Policy,
        inputs: RigInputs,
        inference: Inference,
        control: Control,
        rate_hz: float,
    ) -> None:
        self._node, self._rig, self._policy = node, rig, policy
        self._inference, self._control = inference, control
        self._status = node.create_publisher(PolicyStatus, "~/status", qos.STATUS)
        self._chunk = node.create_publisher(ActionChunk, "~/action_chunk", qos.reliable(10))
        control.on_plan, control.on_state = self._publish_plan, self.publish
        self._diagnostics = RigDiagnostics(
            node, rig.name, inputs, control.commander.gate, self._inference_status
        )
        # Steady, so that a stopped /clock cannot silence the report of it.
        self._timer = node.create_timer(
            1.0 / rate_hz, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def publish(self) -> None:
        """Publish one PolicyStatus."""
        inference, control, now = self._inference, self._control, self._node.get_clock().now()
        counts = control.commander.gate.counts
        message = PolicyStatus(
            state=control.state,
            reason=control.reason,
            instruction=inference.instruction,
            checkpoint=self._policy.identity,
            inferences=inference.done,
            inferences_skipped=inference.skipped,
            commands=control.commander.sent,
            interventions=sum(counts.values()),
            interventions_by_kind=[f"{kind}={count}" for kind, count in sorted(counts.items())],
        )
        message.header.stamp = now.to_msg()
        message.inference_p50_ms, message.inference_p95_ms, message.inference_max_ms = inference.latency_ms()
        message.ensemble_p50_ms = float(np.median(tuple(control.ensemble_ms) or (np.nan,)))
        with inference.lock:
            newest_ns = inference.ensembler.newest_ns
            message.plan_left_s = inference.ensembler.left_s(now.nanoseconds)
        message.chunk_age_s = float("nan") if newest_ns is None else (now.nanoseconds - newest_ns) * 1e-9
        self._status.publish(message)

    def _inference_status(self) -> tuple[str, bytes, str, dict]:
        control, inference = self._control, self._inference
        p50_ms, p95_ms, max_ms = inference.latency_ms()
        values = {
            "p50_ms": f"{p50_ms:.1f}",
            "p95_ms": f"{p95_ms:.1f}",
            "max_ms": f"{max_ms:.1f}",
            "chunks": inference.done,
            "skipped": inference.skipped,
            "missed_ticks": control.missed_ticks,
        }
        return "policy", _LEVELS.get(control.state, DiagnosticStatus.OK), control.reason or "running", values

    def close(self) -> None:
        """Take the topics down."""
        self._control.on_plan, self._control.on_state = lambda plan: None, lambda: None
        self._diagnostics.close()
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._status)
        self._node.destroy_publisher(self._chunk)

    def _publish_plan(self, plan: Plan) -> None:
        stamps = [Time(nanoseconds=s).to_msg() for s in plan.stamps_ns]
        message = ActionChunk(
            observation_stamp=stamps[-1],
            names=self._rig.action_names,
            dt_s=self._policy.dt_s,
            horizon=len(plan.values),
            dim=plan.values.shape[1],
            contributor_stamps=stamps,
        )
        message.header.stamp = Time(nanoseconds=plan.t_ns).to_msg()
        message.values = plan.values.astype(np.float32).ravel()
        message.contributor_weights = plan.weights
        self._chunk.publish(message)
