"""A process that publishes every input stream of a rig at its rate, in real time: noise frames, still joints."""

from __future__ import annotations

import array
import sys

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from vla_rig import qos
from vla_rig.nodes import run_node
from vla_rig.rig_file import load_rig


class RigSource(Node):
    def __init__(self, rig_path: str) -> None:
        super().__init__("rig_source")
        rig = load_rig(rig_path)
        rng = np.random.default_rng(0)
        for camera in rig.cameras.values():
            pixels = rng.integers(0, 256, camera.height * camera.width * 3, np.uint8)
            frame = Image(height=camera.height, width=camera.width, encoding="rgb8", step=camera.width * 3)
            frame.data = array.array("B", pixels.tobytes())
            self._repeat(frame, camera.topic, camera.rate_hz)
        for name in rig.follower_sources:
            source = rig.joint_sources[name]
            rest = [rig.ranges["follower_gripper_rad"][0] if j == "gripper" else 0.0 for j in source.joints]
            zeros = [0.0] * len(rest)
            state = JointState(name=source.joints, position=rest, velocity=zeros, effort=zeros)
            self._repeat(state, source.topic, source.rate_hz)

    def _repeat(self, message, topic: str, rate_hz: float) -> None:
        publisher = self.create_publisher(type(message), topic, qos.SENSOR)

        def publish() -> None:
            message.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(message)

        self.create_timer(1.0 / rate_hz, publish)


if __name__ == "__main__":
    sys.exit(run_node(lambda: RigSource(sys.argv[1]), sys.argv))
