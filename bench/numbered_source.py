"""A process that publishes the streams of the ALOHA rig in real time, every frame carrying its number.

Cameras, followers and `command` come at the rig's control rate. The number stands in the frame as 32 blocks of 16 x 16
pixels, black or white, so that it survives JPEG; the rest is a smooth picture that moves.
"""

from __future__ import annotations

import array
import sys

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from vla_msgs.msg import RigCommand
from vla_rig import qos
from vla_rig.nodes import run_node
from vla_rig.rig import Rig
from vla_rig.rig_file import load_rig

BLOCK = 16
BITS = 32
_PICTURES = 8


def write_number(image: np.ndarray, number: int) -> None:
    """Put `number` into the first rows of an image (H, W, 3) uint8."""
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)


def read_number(image: np.ndarray) -> int:
    """The number that `write_number` put there."""
    centres = image[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK, 1]
    return sum(1 << bit for bit in range(BITS) if centres[bit] > 127)


class NumberedSource(Node):
    """Publishes in ticks of one timer; a tick that comes late is published late, none is left out."""

    def __init__(self, rig: Rig) -> None:
        super().__init__("numbered_source")
        self._rig, self._number = rig, 0
        rng = np.random.default_rng(0)
        self._cameras = []
        for camera in rig.cameras.values():
            publisher = self.create_publisher(Image, camera.topic, qos.SENSOR)
            self._cameras.append((publisher, [_picture(rng, camera) for _ in range(_PICTURES)]))
        self._joints = [
            (self.create_publisher(JointState, source.topic, qos.SENSOR), self._rest(source))
            for source in (rig.joint_sources[name] for name in rig.follower_sources)
        ]
        rest = [0.0] * len(rig.action)
        self._command = RigCommand(source="teleop", names=rig.action_names, requested=rest, sent=rest)
        self._commands = self.create_publisher(RigCommand, "command", qos.RECORD)
        self._period_ns = round(1e9 / rig.control_rate_hz)
        self._begin_ns = self.get_clock().now().nanoseconds
        self.create_timer(0.25 / rig.control_rate_hz, self._tick)

    def _rest(self, source) -> JointState:
        low = self._rig.ranges["follower_gripper_rad"][0]
        position = [low if joint == "gripper" else 0.0 for joint in source.joints]
        zeros = [0.0] * len(position)
        return JointState(name=source.joints, position=position, velocity=zeros, effort=zeros)

    def _tick(self) -> None:
        while self.get_clock().now().nanoseconds >= self._begin_ns + self._number * self._period_ns:
            self._publish(self._begin_ns + self._number * self._period_ns)
            self._number += 1

    def _publish(self, at_ns: int) -> None:
        for publisher, state in self._joints:
            publisher.publish(_stamped(state, at_ns))
        for publisher, pictures in self._cameras:
            message, view = pictures[self._number % _PICTURES]
            write_number(view, self._number)
            publisher.publish(_stamped(message, at_ns))
        self._commands.publish(_stamped(self._command, at_ns))


def _picture(rng: np.random.Generator, camera) -> tuple[Image, np.ndarray]:
    """A smooth random image message, and its pixels to write on."""
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    pixels = cv2.resize(coarse, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC)
    message = Image(height=camera.height, width=camera.width, encoding="rgb8", step=camera.width * 3)
    message.data = array.array("B", pixels.tobytes())
    return message, np.frombuffer(message.data, np.uint8).reshape(pixels.shape)


def _stamped(message, at_ns: int):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(at_ns, 1_000_000_000)
    return message


if __name__ == "__main__":
    sys.exit(run_node(lambda: NumberedSource(load_rig(sys.argv[1])), sys.argv))
