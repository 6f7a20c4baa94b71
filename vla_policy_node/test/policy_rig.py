"""The rig's side of the policy node's tests: real messages on the rig's topics, with faults on request."""

from __future__ import annotations

import array
import threading
import time

import numpy as np
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from support.processes import DEADLINE_S, wait_until

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

    def lockstep(self, ticks: int, commands: list) -> bool:
        """Simulated time: publish a tick and its /clock, wait for the command of that tick, go on.

        False when the first tick is not answered: ends of connections are made one after the other, and a message
        that falls between is lost. A rig would go on; here each tick waits for its answer.
        """
        publishers = [self._clock, *self._arms.values(), *self._cameras.values()]
        wait_until(lambda: all(p.get_subscription_count() for p in publishers), "the node's subscriptions")
        for tick in range(1, ticks + 1):
            stamp = Time(nanoseconds=tick * 20_000_000).to_msg()
            self.publish(tick, tick * 20_000_000)
            self._clock.publish(Clock(clock=stamp))
            end_s = time.monotonic() + (10.0 if tick == 1 else DEADLINE_S)
            while not any(c.header.stamp == stamp for c in reversed(commands)):
                if tick == 1 and time.monotonic() > end_s:
                    return False
                assert time.monotonic() < end_s, f"no command for tick {tick}"
                time.sleep(0.001)
        return True
