"""The usual hand-written policy node: one thread, decode in callbacks, infer in the control timer.

Latest message wins, stamps are carried along only to be measured. Publishes RigCommand stamped with
the newest frame behind it.
"""

from __future__ import annotations

import sys

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from vla_model.policy import Observation, Policy
from vla_msgs.msg import RigCommand
from vla_rig import qos
from vla_rig.inputs import stamp_ns
from vla_rig.joints import state_reader
from vla_rig.nodes import run_node
from vla_rig.rig_file import load_rig


class NaivePolicy(Node):
    def __init__(self, rig_path: str, checkpoint: str) -> None:
        super().__init__("naive_policy")
        rig = load_rig(rig_path)
        self.policy = Policy.from_checkpoint(checkpoint)
        self.policy.warm_up()
        self.images, self.joints, self.stamps = {}, {}, {}
        self.cameras, self.sources = list(rig.cameras), rig.follower_sources
        self.read_state = state_reader(rig)
        for name, camera in rig.cameras.items():
            self.create_subscription(Image, camera.topic, lambda m, n=name: self.on_image(n, m), qos.SENSOR)
        for name in self.sources:
            topic = rig.joint_sources[name].topic
            self.create_subscription(
                JointState, topic, lambda m, n=name: self.joints.update({n: m}), qos.SENSOR
            )
        self.publisher = self.create_publisher(RigCommand, "command", 10)
        self.create_timer(rig.dt_s, self.on_timer)

    def on_image(self, name: str, message: Image) -> None:
        pixels = np.frombuffer(bytes(message.data), np.uint8)
        self.images[name] = pixels.reshape(message.height, message.width, 3).copy()
        self.stamps[name] = message.header.stamp

    def on_timer(self) -> None:
        if len(self.images) < len(self.cameras) or len(self.joints) < len(self.sources):
            return
        state = self.read_state.read(self.joints)
        # as old as its oldest part, by which our node stamps, too
        stamps = [*self.stamps.values(), *(message.header.stamp for message in self.joints.values())]
        stamp = min(stamps, key=stamp_ns)
        chunk = self.policy.predict(Observation(self.images, state, "transfer the cube", stamp_ns(stamp)))
        command = RigCommand(requested=chunk[0])
        command.header.stamp = stamp
        self.publisher.publish(command)


if __name__ == "__main__":
    sys.exit(run_node(lambda: NaivePolicy(sys.argv[1], sys.argv[2]), sys.argv))
