"""Action vectors -> command messages of the rig's types, and back (for simulators and replay)."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Mapping
from functools import cache

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vla_rig import qos
from vla_rig.rig import Rig, Sink

UNNAMED = "a node whose name is not discovered yet"
_POINT_FIELD = {"position": "positions", "velocity": "velocities", "effort": "effort"}


class SinkError(RuntimeError):
    """A command topic that cannot be served; the message names the sink and what is missing."""


@cache
def message_class(type_name: str):
    """The Python class of "package/msg/Type"; SinkError when its package is not installed."""
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise SinkError(
            f"message type {type_name} needs the ROS package '{package}', "
            "which is not installed or not sourced"
        ) from None


def encode(sink: Sink, quantity: str, raw: np.ndarray, stamp, dt_s: float):
    """A command message for raw joint values in the order of sink.joints."""
    cls = message_class(sink.message)
    values = [float(v) for v in raw]
    kind = sink.message.rsplit("/", 1)[1]
    if kind == "JointState":
        message = cls(name=list(sink.joints))
        message.header.stamp = stamp
        if quantity == "effort":  # Teleavatar's gripper driver expects all three arrays
            message.position = message.velocity = [0.0] * len(values)
        setattr(message, quantity, values)
        return message
    if kind == "JointTrajectory":  # stamp zero: controllers start at once, whatever the latency
        message = cls(joint_names=list(sink.joints))
        point = message_class("trajectory_msgs/msg/JointTrajectoryPoint")()
        setattr(point, _POINT_FIELD[quantity], values)
        point.time_from_start = Duration(seconds=dt_s).to_msg()
        message.points = [point]
        return message
    if kind == "Float64MultiArray":
        return cls(data=values)
    if kind == "JointGroupCommand":
        return cls(name=sink.group, cmd=values)
    return cls(name=sink.joints[0], cmd=values[0])  # JointSingleCommand


def decode(sink: Sink, quantity: str, message) -> dict[str, float]:
    """The inverse of encode: raw value per joint. Raises SinkError for a message that does not fit the sink."""
    kind = sink.message.rsplit("/", 1)[1]
    names = list(sink.joints)
    if kind == "JointState":
        names, values = list(message.name), getattr(message, quantity)
    elif kind == "JointTrajectory":
        names = list(message.joint_names)
        values = getattr(message.points[-1], _POINT_FIELD[quantity]) if message.points else []
    elif kind == "Float64MultiArray":
        values = message.data
    elif kind == "JointGroupCommand":
        if message.name != sink.group:
            raise SinkError(f"{sink.topic}: command is for group '{message.name}', expected '{sink.group}'")
        values = message.cmd
    else:
        names, values = [message.name], [message.cmd]
    if sorted(names) != sorted(sink.joints) or len(values) != len(names):
        raise SinkError(f"{sink.topic}: got {len(values)} values for {names}, expected {list(sink.joints)}")
    return {name: _finite(sink, name, value) for name, value in zip(names, values, strict=True)}


def _finite(sink: Sink, name: str, value: float) -> float:
    if not math.isfinite(value):
        raise SinkError(f"{sink.topic}: command for joint '{name}' is {value}, expected a finite number")
    return float(value)


def _node_name(info: TopicEndpointInfo) -> str:
    if info.node_name == "_NODE_NAME_UNKNOWN_":
        return UNNAMED
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


class RigSinks:
    """Publishers for every sink of a rig. Only vla_rig.commander uses it."""

    def __init__(self, node: Node, rig: Rig) -> None:
        self._node, self._rig = node, rig
        columns: dict[str, Mapping[str, int]] = {
            name: {c.joint: i for i, c in enumerate(rig.action) if c.sink == name} for name in rig.sinks
        }
        self._order = {name: [columns[name][j] for j in sink.joints] for name, sink in rig.sinks.items()}
        scales = np.array([rig.scale(c.range) for c in rig.action])
        self._offset, self._gain = scales[:, 0], scales[:, 1]
        self._quantity = {name: rig.action[self._order[name][0]].quantity for name in rig.sinks}
        for name, sink in rig.sinks.items():
            try:
                message_class(sink.message)
            except SinkError as error:
                raise SinkError(f"sink '{name}' of rig '{rig.name}': {error}") from None
        self._publishers: dict[str, Publisher] = {}

    def open(self) -> None:
        """Advertise the command topics, unless that is done."""
        for name, sink in self._rig.sinks.items():
            if name not in self._publishers:
                self._publishers[name] = self._node.create_publisher(
                    message_class(sink.message), sink.topic, qos.COMMAND
                )

    def send(self, action: np.ndarray, stamp) -> None:
        """Publish one action (A,) in the rig's units. All messages are built before the first is sent.

        Raises SinkError before open() and for values that are not finite.
        """
        if not self._publishers:
            raise SinkError("the command topics are not open")
        if not np.isfinite(action).all():
            raise SinkError(f"refusing to send an action that is not finite: {action}")
        raw = self._offset + action / self._gain
        messages = {
            name: encode(sink, self._quantity[name], raw[self._order[name]], stamp, self._rig.dt_s)
            for name, sink in self._rig.sinks.items()
        }
        for name, message in messages.items():
            self._publishers[name].publish(message)

    def rivals(self) -> list[str]:
        """Command topics that somebody else publishes on, too: "/follower_left/commands (by /teleop)".

        Publishers are counted, for a rival may bear this node's own name.
        """
        found = []
        for name, sink in self._rig.sinks.items():
            topic = self._node.resolve_topic_name(sink.topic)
            infos = self._node.get_publishers_info_by_topic(topic)
            others = Counter(_node_name(i) for i in infos)
            if name in self._publishers:
                others[self._node.get_fully_qualified_name()] -= 1
            if +others:
                found.append(f"{topic} (by {', '.join(sorted(+others))})")
        return found

    def close(self) -> None:
        while self._publishers:
            self._node.destroy_publisher(self._publishers.popitem()[1])
