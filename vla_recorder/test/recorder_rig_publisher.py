"""A process that publishes the topics of the aloha_sim rig with numbers that say where they belong.

Everything published at grid time k * 20 ms carries k: joint states are stamped 2 ms before, commands 3 ms after it.
"sim" as second argument: under a simulated clock at half speed or less, so that a loaded machine can follow; "real":
now; "follow": whenever another process publishes /clock. Further arguments: name=NODE, only=STREAM,...,
reliable=STREAM,... One JSON object a line on stdin changes what one stream does, e.g. {"cam_low": "dead"}, lets the
clock leap: {"leap": TICKS}, or kills the process: {"die": true}.
"""

import array
import json
import os
import signal
import sys
import threading
import time

import numpy as np
import rclpy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from vla_msgs.msg import RigCommand
from vla_rig import qos
from vla_rig.rig_file import load_rig

PERIOD_NS = 20_000_000
JOINTS_BEFORE_NS, COMMAND_AFTER_NS = 2_000_000, 3_000_000
CODES = 1000


def joint_value(source_index: int, joint_index: int, k: int) -> float:
    return source_index * 10 + joint_index + (k % CODES) / (2 * CODES)


def action_value(column: int, k: int) -> float:
    return -column - (k % CODES) / (2 * CODES)


def colour(camera_index: int, k: int) -> tuple[int, int, int]:
    """RGB of the frame of grid time k; red and blue never agree."""
    return k % 100, 100 + camera_index, 255 - k % 100


def camera_k(k: int) -> int:
    """Cameras publish at every second grid time."""
    return k - k % 2


class Publisher:
    def __init__(self, node, rig, only=(), reliable=()):
        self.modes = {}
        self._rig = rig
        self._publishers = {}
        for kind, streams in ((Image, rig.cameras), (JointState, rig.joint_sources)):
            for name, stream in streams.items():
                if not only or name in only:
                    offered = qos.RECORD if name in reliable else qos.SENSOR
                    self._publishers[name] = node.create_publisher(kind, stream.topic, offered)
        if not only or "command" in only:
            offered = qos.RECORD if not reliable or "command" in reliable else qos.SENSOR
            self._publishers["command"] = node.create_publisher(RigCommand, "command", offered)

    def tick(self, k):
        if self.modes.get(
            "die"
        ):  # between messages: a lock in shared memory that it held would deafen others
            os.kill(os.getpid(), signal.SIGKILL)
        for i, name in enumerate(self._rig.joint_sources):
            if self._speaks(name):
                self._publishers[name].publish(self._joints(i, name, k))
        for i, name in enumerate(self._rig.cameras):
            if k == camera_k(k) and self._speaks(name):
                self._publishers[name].publish(self._image(i, name, k))
        if self._speaks("command"):
            self._publishers["command"].publish(self._action(k))

    def _speaks(self, name):
        return name in self._publishers and self.modes.get(name) != "dead"

    def _joints(self, source_index, name, k):
        joints = self._rig.joint_sources[name].joints
        values = [joint_value(source_index, j, k) for j in range(len(joints))]
        order = [(k + j) % len(joints) for j in range(len(joints))]  # never the same order twice in a row
        message = JointState(
            name=[joints[j] for j in order],
            position=[values[j] for j in order],
            velocity=[values[j] + 0.5 for j in order],
            effort=[values[j] + 1000 for j in order],
        )
        if self.modes.get(name) == "nan":
            message.position = [float("nan")] * len(joints)
        if self.modes.get(name) == "closed":
            closed = self._rig.ranges["leader_gripper_rad"][0]
            message.position = [closed if joints[j] == "gripper" else values[j] for j in order]
        _stamp(message, k * PERIOD_NS - JOINTS_BEFORE_NS)
        return message

    def _image(self, camera_index, name, k):
        mode = self.modes.get(name, "rgb8")
        height, width = (240, 320) if mode == "small" else (480, 640)
        pixel = colour(camera_index, k)
        encoding = mode if mode in ("bgr8", "bayer_rggb8") else "rgb8"
        row = bytes(pixel[::-1] if mode == "bgr8" else pixel) * width
        message = Image(height=height, width=width, encoding=encoding, step=width * 3)
        message.data = array.array("B", row * height)
        _stamp(message, k * PERIOD_NS)
        return message

    def _action(self, k):
        names = self._rig.action_names
        requested = np.array([action_value(i, k) for i in range(len(names))], np.float32)
        message = RigCommand(
            source="teleop", names=names, requested=requested, sent=requested + np.float32(0.25)
        )
        message.interventions = ["velocity: left_waist"] if k % 10 == 0 else []
        _stamp(message, k * PERIOD_NS + COMMAND_AFTER_NS)
        return message


def _stamp(message, t_ns):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(t_ns, 1_000_000_000)


def ticks_of(time) -> int:
    return (time.sec * 1_000_000_000 + time.nanosec) // PERIOD_NS


def main():
    options = dict(argument.split("=") for argument in sys.argv[3:])
    rclpy.init()
    node = rclpy.create_node(options.pop("name", "rig_publisher"))
    streams = {what: names.split(",") for what, names in options.items()}
    publisher = Publisher(node, load_rig(sys.argv[1]), **streams)
    closed = threading.Event()

    def listen():
        for line in sys.stdin:
            publisher.modes.update(json.loads(line))
        closed.set()

    threading.Thread(target=listen, daemon=True).start()
    if sys.argv[2] == "follow":
        node.create_subscription(Clock, "/clock", lambda message: publisher.tick(ticks_of(message.clock)), 10)
        while not closed.is_set():
            rclpy.spin_once(node, timeout_sec=0.1)
        return
    simulated = sys.argv[2] == "sim"
    clock = node.create_publisher(Clock, "/clock", 10) if simulated else None
    k, period_s = (5000, 0.04) if simulated else (time.time_ns() // PERIOD_NS, PERIOD_NS * 1e-9)
    due_s = time.monotonic()
    while not closed.wait(max(0.0, due_s - time.monotonic())):
        k += publisher.modes.pop("leap", 0)
        publisher.tick(k)  # none is skipped: a loaded machine publishes late, not less
        due_s += period_s
        if simulated:
            now = Clock()
            now.clock.sec, now.clock.nanosec = divmod(k * PERIOD_NS, 1_000_000_000)
            clock.publish(now)
            due_s = max(
                due_s, time.monotonic()
            )  # nor does it hurry to catch up: who listens has no more time either
        k += 1


if __name__ == "__main__":
    main()
