"""The rig's side of the policy node's tests: real messages on the rig's topics, with faults on request."""

from __future__ import annotations

import array
import threading
import time

import numpy as np
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from support.processes import wait_until

from vla_rig import qos
from vla_rig.rig import Rig

CAMERAS = ("cam_high", "cam_left_wrist")
RIG_YAML = """
extends: {base}
cameras:
  cam_high: {{width: 64, height: 48, rate_hz: 50}}
  cam_left_wrist: {{width: 64, height: 48, rate_hz: 50}}
"""


class RigStreams:
    """Publishes two cameras and the follower joints. `muted`, `bad_joint` and `encoding` make it faulty."""

    def __init__(self, graph, rig: Rig) -> None:
        self._rig, self._node = rig, graph.node
        self.muted: set[str] = set()
        self.bad_joint = ""
        self.encoding = "rgb8"
        self._cameras = {n: graph.publisher(Image, rig.cameras[n].topic, qos.SENSOR) for n in CAMERAS}
        self._arms = {
            n: graph.publisher(JointState, rig.joint_sources[n].topic, qos.SENSOR)
            for n in rig.follower_sources
        }
        self._clock = graph.publisher(Clock, "/clock", 10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RigStreams:
        """Publish in real time until left."""
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        tick = 0
        while not self._stop.wait(0.02):
            self.publish(tick, self._node.get_clock().now().nanoseconds)
            tick += 1

    def publish(self, tick: int, t_ns: int) -> None:
        """One message per stream, its content a function of the tick."""
        stamp = Time(nanoseconds=t_ns).to_msg()
        for name in set(self._arms) - self.muted:
            self._arms[name].publish(self._joints(name, stamp))
        for name in set(self._cameras) - self.muted:
            camera = self._rig.cameras[name]
            pixels = np.random.default_rng([tick, len(name)]).integers(
                0, 256, (camera.height, camera.width, 3), np.uint8
            )
            image = Image(
                height=camera.height, width=camera.width, encoding=self.encoding, step=camera.width * 3
            )
            image.header.stamp = stamp
            image.data = array.array("B", pixels.tobytes())
            self._cameras[name].publish(image)

    def _joints(self, name: str, stamp) -> JointState:
        names = self._rig.joint_sources[name].joints
        values = {j: 0.1 for j in names} | {"left_finger": 0.03, "right_finger": -0.03}
        if self.bad_joint:
            values[self.bad_joint] = float("nan")
        message = JointState(name=names, position=[values[j] for j in names])
        message.velocity = message.effort = [0.0] * len(names)
        message.header.stamp = stamp
        return message

    def _tick(self, tick: int, t_ns: int) -> None:
        self.publish(tick, t_ns)
        self._clock.publish(Clock(clock=Time(nanoseconds=t_ns).to_msg()))

    def lockstep(self, ticks: int, commands: list, deadline_s: float = 60.0) -> None:
        """Simulated time: publish a tick and its /clock, wait for the command of that tick, go on."""
        end_s = time.monotonic() + deadline_s
        publishers = [self._clock, *self._arms.values(), *self._cameras.values()]
        wait_until(lambda: all(p.get_subscription_count() for p in publishers), "the node's subscriptions")
        for tick in range(1, ticks + 1):
            t_ns = tick * 20_000_000
            self._tick(tick, t_ns)
            again_s = time.monotonic() + 2.0
            while not any(c.header.stamp == Time(nanoseconds=t_ns).to_msg() for c in reversed(commands)):
                assert time.monotonic() < end_s, f"no command for tick {tick}"
                if tick == 1 and time.monotonic() > again_s:
                    # the other end of a connection can be made a moment later than ours, and misses the first message
                    self._tick(tick, t_ns)
                    again_s = time.monotonic() + 2.0
                time.sleep(0.001)
