"""A process that drives a rig as its file says, but for what it is told to do wrong."""

import sys

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Image, JointState

from vla_rig.rig_file import load_rig
from vla_rig.sinks import message_class

RATE_HZ = 20.0


def main(path: str, *wrong: str) -> None:
    """Mistakes: small=CAMERA, bgr=CAMERA, short=SOURCE (one joint less), silent=STREAM, deaf=SINK."""
    rig, wrong = load_rig(path), set(wrong)
    rclpy.init()
    node = rclpy.create_node("driver")
    senders = []
    for name, camera in rig.cameras.items():
        height = camera.height // 2 if f"small={name}" in wrong else camera.height
        image = Image(height=height, width=camera.width, step=3 * camera.width)
        image.encoding = "bgr8" if f"bgr={name}" in wrong else camera.encoding
        image.data = np.zeros(3 * camera.width * height, np.uint8).tobytes()
        senders.append((name, node.create_publisher(Image, camera.topic, 10), image))
    for name, source in rig.joint_sources.items():
        joints = source.joints[1:] if f"short={name}" in wrong else source.joints
        state = JointState(name=joints, position=[0.0] * len(joints))
        senders.append((name, node.create_publisher(JointState, source.topic, 10), state))
    for name, sink in rig.sinks.items():
        if f"deaf={name}" not in wrong:
            node.create_subscription(message_class(sink.message), sink.topic, lambda _: None, 10)

    def publish() -> None:
        for name, publisher, message in senders:
            if f"silent={name}" not in wrong:
                message.header.stamp = node.get_clock().now().to_msg()
                publisher.publish(message)

    node.create_timer(1.0 / RATE_HZ, publish)
    print("driving", flush=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
