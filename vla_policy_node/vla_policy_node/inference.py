"""The worker: newest sample -> observation -> chunk -> ensembler."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np
from rclpy.node import Node

from vla_model.policy import Observation, ObservationError, Policy
from vla_policy_node.ensemble import Ensembler
from vla_rig.align import Sample
from vla_rig.images import ImageError, camera_image
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError, state_reader
from vla_rig.rig import Rig


class Inference:
    """Owns the policy and the ensembler. `step` makes one chunk; `run` does so whenever there is news.

    A chunk is stamped with the latest time whose sample is final (Aligner.complete_ns): there the
    observation equals the row that a recorder would have written, and the ensembler accounts for
    the time since.
    """

    def __init__(self, node: Node, rig: Rig, policy: Policy, ensembler: Ensembler, inputs: RigInputs) -> None:
        self.ensembler = ensembler
        self.lock = threading.Lock()
        """Guards the ensembler."""
        self.done = self.skipped = 0
        self.reason = "no observation yet"
        self.recent_ms: deque[float] = deque(maxlen=200)
        self.instruction = ""
        self._epoch = 0
        self._node, self._rig, self._policy, self._inputs = node, rig, policy, inputs
        self._read_state = state_reader(rig)
        self._enabled = threading.Event()
        self._closed = False
        self._last_ns: int | None = None

    def reset(self, instruction: str | None = None) -> None:
        """Forget all chunks, the one being computed included."""
        with self.lock:
            self._epoch += 1
            self.ensembler.reset()
            self._last_ns = None
            if instruction is not None:
                self.instruction = instruction

    def enable(self, on: bool) -> None:
        """Let `run` work, or pause it."""
        self._enabled.set() if on else self._enabled.clear()

    def close(self) -> None:
        """End `run`."""
        self._closed = True

    def run(self) -> None:
        """Worker thread: a chunk for every new complete observation, the newest first, older ones skipped."""
        while self._node.context.ok() and not self._closed:
            if not self._enabled.wait(timeout=0.2):
                continue
            if self._inputs.aligner.wait_for(self._news, timeout_s=0.2):
                self.step(self._inputs.aligner.complete_ns())
            else:
                self._explain(self._node.get_clock().now().nanoseconds)

    def _news(self, aligner) -> bool:
        complete_ns = aligner.complete_ns()
        return complete_ns is not None and (self._last_ns is None or complete_ns > self._last_ns)

    def step(self, t_ns: int) -> bool:
        """Predict from the sample at t_ns and add the chunk; False (and a reason) when it cannot be used."""
        with self.lock:
            epoch, instruction = self._epoch, self.instruction
        self._last_ns = t_ns
        sample = self._inputs.sample(t_ns)
        if not sample.ok:
            return self._skip("; ".join(sample.problems))
        start = time.perf_counter()
        try:
            chunk = self._policy.predict(self.observe(sample, instruction))
        except ObservationError as error:
            return self._skip(str(error))
        self.recent_ms.append((time.perf_counter() - start) * 1e3)
        if not np.isfinite(chunk).all():
            return self._skip("the policy returned values that are not finite")
        with self.lock:
            if epoch != self._epoch:
                return False
            self.ensembler.add(t_ns, chunk)
        self.done += 1
        self.reason = ""
        return True

    def observe(self, sample: Sample, instruction: str) -> Observation:
        """Images (H, W, 3) uint8 RGB by camera name and the state (S,) float32 in the rig's units.

        Raises ObservationError, naming topic and camera or joint; a bad image also counts on its stream.
        """
        images = {}
        for name in self._policy.camera_names:
            camera = self._rig.cameras[name]
            try:
                images[name] = camera_image(camera, sample.values[name])
            except ImageError as error:
                self._inputs.reject(name, str(error))
                raise ObservationError(f"{name} ({camera.topic}): {error}") from None
        try:
            state = self._read_state.read(sample.values)
        except JointError as error:
            raise ObservationError(str(error)) from None
        return Observation(images=images, state=state, instruction=instruction, stamp_ns=sample.t_ns)

    def _explain(self, now_ns: int) -> None:
        stale = self._inputs.sample(now_ns).stale
        if stale:
            self.reason = "; ".join(stale)

    def _skip(self, reason: str) -> bool:
        self.skipped += 1
        self.reason = reason
        self._node.get_logger().warning(f"no inference: {reason}", throttle_duration_sec=2.0)
        return False

    def latency_ms(self) -> tuple[float, float, float]:
        """p50, p95 and largest of the last 200 predictions; NaN before the first."""
        recent = np.array(tuple(self.recent_ms) or (np.nan,))
        return float(np.percentile(recent, 50)), float(np.percentile(recent, 95)), float(recent.max())
