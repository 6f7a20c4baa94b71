"""What the simulated rig publishes each tick: joint states, task status, images, /clock."""

from __future__ import annotations

import array

import cv2
import numpy as np
from geometry_msgs.msg import Pose
from rclpy.node import Node
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_msgs.msg import TaskStatus
from vla_rig import qos
from vla_rig.rig import Camera, Rig
from vla_sim.cameras import CameraRenderer
from vla_sim.simulation import Simulation
from vla_sim.wiring import arm_of, camera_period_ticks
from vla_sim.world import JOINTS

# Reliable offers serve reliable and best-effort subscribers alike.


class RigOutputs:
    """Publishers for the follower joint states and cameras of a rig, the task status and /clock."""

    def __init__(self, node: Node, rig: Rig):
        self._rig = rig
        self._clock = node.create_publisher(Clock, "/clock", qos.reliable(1))
        self._status = node.create_publisher(TaskStatus, "task_status", qos.reliable(10))
        self._joints = {
            name: node.create_publisher(JointState, rig.joint_sources[name].topic, qos.reliable(10))
            for name in rig.follower_sources
        }
        self._pictures = {name: CameraMessage(name, camera) for name, camera in rig.cameras.items()}
        self._cameras = {
            name: node.create_publisher(type(self._pictures[name].message), camera.topic, qos.reliable(4))
            for name, camera in rig.cameras.items()
        }

    def publish(self, tick: int, t_ns: int, simulation: Simulation, renderer: CameraRenderer) -> None:
        """Everything that is due at a tick, stamped t_ns; the clock last, so that data is there when it ticks."""
        stamp = Time(nanoseconds=t_ns).to_msg()
        for name, publisher in self._joints.items():
            joints = self._rig.joint_sources[name].joints
            publisher.publish(joint_message(simulation, arm_of(name, "joint source"), joints, stamp))
        self._status.publish(status_message(simulation, stamp))
        for name, publisher in self._cameras.items():
            if tick % camera_period_ticks(self._rig, name) == 0:
                renderer.render(simulation.world.data, name, self._pictures[name].pixels)
                publisher.publish(self._pictures[name].finish(stamp))
        self._clock.publish(Clock(clock=stamp))


class CameraMessage:
    """One camera's message, filled in place again and again; `pixels` is what the renderer draws into."""

    def __init__(self, name: str, camera: Camera):
        shape = (camera.height, camera.width, 3)
        self._swap = camera.message == "raw" and camera.encoding == "bgr8"
        if camera.message == "compressed":
            self.message = CompressedImage(format="rgb8; jpeg compressed bgr8")
            self.pixels = np.empty(shape, np.uint8)
        else:
            self.message = Image(
                height=camera.height, width=camera.width, encoding=camera.encoding, step=camera.width * 3
            )
            self.message.data = array.array("B", bytes(camera.height * camera.width * 3))
            self.pixels = np.frombuffer(self.message.data, np.uint8).reshape(shape)
        self.message.header.frame_id = f"{name}_optical_frame"

    def finish(self, stamp) -> Image | CompressedImage:
        """The message of the drawn pixels, stamped."""
        self.message.header.stamp = stamp
        if self._swap:
            cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR, dst=self.pixels)
        elif isinstance(self.message, CompressedImage):
            bgr = cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR)
            self.message.data = array.array("B", cv2.imencode(".jpg", bgr)[1].tobytes())
        return self.message


def joint_message(simulation: Simulation, arm: str, joints: list[str], stamp) -> JointState:
    """The JointState of one follower arm, joints in the order asked for."""
    reading = simulation.world.read(arm)
    order = [JOINTS.index(joint) for joint in joints]
    message = JointState(name=joints)
    message.header.stamp = stamp
    message.position = reading.position[order].tolist()
    message.velocity = reading.velocity[order].tolist()
    message.effort = reading.effort[order].tolist()
    return message


def status_message(simulation: Simulation, stamp) -> TaskStatus:
    judge = simulation.judge
    message = TaskStatus(
        task=simulation.task.name,
        seed=simulation.seed,
        reward=judge.reward,
        max_reward=judge.max_reward,
        held_s=judge.held_s,
        success=judge.success,
        object_names=[o.name for o in simulation.task.objects],
    )
    message.header.stamp = stamp
    message.header.frame_id = "world"
    for x, y, z, qw, qx, qy, qz in map(np.ndarray.tolist, simulation.world.object_poses()):
        pose = Pose()
        pose.position.x, pose.position.y, pose.position.z = x, y, z
        pose.orientation.w, pose.orientation.x, pose.orientation.y, pose.orientation.z = qw, qx, qy, qz
        message.object_poses.append(pose)
    return message
