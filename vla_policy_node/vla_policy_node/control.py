"""The control loop: plan -> gate -> rig, or hold and say why."""

from __future__ import annotations

import threading
import time
from collections import deque

from rclpy.node import Node

from vla_msgs.msg import PolicyStatus
from vla_policy_node.ensemble import Plan
from vla_policy_node.inference import Inference
from vla_rig.align import Sample
from vla_rig.commander import Commander
from vla_rig.gate import GateClosedError
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError, feedback_reader
from vla_rig.rig import Rig
from vla_rig.ticker import Ticker

_LABELS = {
    PolicyStatus.STATE_IDLE: "idle",
    PolicyStatus.STATE_WAITING: "waiting",
    PolicyStatus.STATE_RUNNING: "running",
    PolicyStatus.STATE_HOLDING: "holding",
    PolicyStatus.STATE_FAULT: "fault",
}


class Control:
    """One command per tick while started. Only this loop commands the rig."""

    def __init__(
        self,
        node: Node,
        rig: Rig,
        inputs: RigInputs,
        inference: Inference,
        commander: Commander,
        lockstep_every: int,
    ) -> None:
        """lockstep_every: 0, or infer inside the loop at every n-th tick, after that tick's messages came."""
        self.state, self.reason = PolicyStatus.STATE_IDLE, ""
        self.ensemble_ms: deque[float] = deque(maxlen=200)
        self.on_plan = lambda plan: None
        self.on_state = lambda: None
        self._node, self._inputs, self._inference, self._commander = node, inputs, inference, commander
        self._lockstep_every, self._ticks = lockstep_every, 0
        self._feedback = feedback_reader(rig)
        self._running = False
        self._lock = threading.Lock()  # the loop must not overwrite what stop() has said
        self._ticker = Ticker(node, rig.control_rate_hz)

    @property
    def commander(self) -> Commander:
        return self._commander

    @property
    def missed_ticks(self) -> int:
        """Ticks that the loop came too late for."""
        return self._ticker.missed

    def start(self) -> None:
        """Begin commanding. Raises GateClosedError when another node commands the rig."""
        self._inference.reset()
        self._commander.open()
        self._ticks = 0
        with self._lock:
            self._running = True
        self._set(PolicyStatus.STATE_WAITING, "waiting for the first chunk")
        self._inference.enable(not self._lockstep_every)

    def stop(self, reason: str, state: int = PolicyStatus.STATE_IDLE) -> None:
        """Stop commanding; the rig holds its last command. Nothing is sent after this returns."""
        self._commander.stop(reason)
        self._inference.enable(False)
        self._set(state, reason, running=False)

    def close(self) -> None:
        """End `run`."""
        self._ticker.stop()

    def run(self) -> None:
        """Control thread."""
        for t_ns in self._ticker:
            if not self._running:
                continue
            try:
                self._step(t_ns)
            except GateClosedError as error:
                self._set(PolicyStatus.STATE_HOLDING, str(error))

    def _step(self, t_ns: int) -> None:
        if self._lockstep_every:
            self._inputs.wait_due(t_ns, timeout_s=0.5)
            if self._ticks % self._lockstep_every == 0:
                self._inference.step(t_ns)
            self._ticks += 1
        start = time.perf_counter()
        with self._inference.lock:
            plan = self._inference.ensembler.plan(t_ns)
        self.ensemble_ms.append((time.perf_counter() - start) * 1e3)
        sample = self._inputs.sample(t_ns)
        if sample.stale:
            self._hold("; ".join(sample.stale), t_ns)
        elif not len(plan.values):
            self._hold(self._inference.reason or "the plan has run out", t_ns)
        else:
            self._follow(plan, sample, t_ns)

    def _follow(self, plan: Plan, sample: Sample, t_ns: int) -> None:
        try:
            measured = self._feedback.read(sample.values)
        except JointError as error:
            self._hold(str(error), t_ns)
            return
        self._commander.command(plan.values[0], measured, t_ns)
        self._set(PolicyStatus.STATE_RUNNING, "")
        self.on_plan(plan)

    def _hold(self, reason: str, t_ns: int) -> None:
        """Repeat the last command, so that nothing downstream times out; before the first one send nothing."""
        last = self._commander.gate.last_sent
        if last is None:
            self._set(PolicyStatus.STATE_WAITING, reason)
            return
        self._set(PolicyStatus.STATE_HOLDING, reason)
        self._commander.hold(t_ns)

    def _set(self, state: int, reason: str, running: bool = True) -> None:
        with self._lock:
            if running and not self._running:
                return  # stopped meanwhile
            self._running = running
            changed = state != self.state
            self.state, self.reason = state, reason
        if changed:
            self._node.get_logger().info(f"{_LABELS[state]}: {reason}" if reason else _LABELS[state])
            self.on_state()
