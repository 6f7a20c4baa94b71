"""Demonstrations in the terms of a rig: leader joint values for each action of the rig file."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import JointState

from vla_rig.nodes import UserError
from vla_rig.rig import ActionChannel, Rig
from vla_sim.demonstrator import Trajectory
from vla_sim.wiring import arm_of
from vla_sim.world import ARM_JOINTS


class LeaderArms:
    """Turns actions (A,) in the rig's order and units into the leaders' own joint states."""

    def __init__(self, rig: Rig):
        """Raises UserError when an action has no leader, or moves a joint that the demonstrator does not know."""
        self._rig = rig
        for channel in rig.action:
            _check(channel)
        self.rest = np.array([rig.rest_pose[name] for name in rig.action_names])
        """(A,) the pose in which an episode starts."""

    def rows(self, trajectory: Trajectory) -> np.ndarray:
        """(T, A) actions of a planned trajectory."""
        return np.stack([_column(c, trajectory) for c in self._rig.action], axis=1)

    def messages(self, action: np.ndarray, stamp) -> dict[str, JointState]:
        """One JointState per leader source for an action (A,); grippers in the leader's own radians."""
        messages = {name: JointState() for name in self._rig.leader_sources}
        for message in messages.values():
            message.header.stamp = stamp
        for channel, value in zip(self._rig.action, action, strict=True):
            offset, gain = self._rig.scale(channel.leader.range)
            messages[channel.leader.source].name.append(channel.leader.joint)
            messages[channel.leader.source].position.append(offset + float(value) / gain)
        return messages


def _check(channel: ActionChannel) -> None:
    if channel.leader is None:
        raise UserError(f"action '{channel.name}' has no leader joint, so nothing can demonstrate it")
    arm_of(channel.sink, "sink")
    if channel.joint not in (*ARM_JOINTS, "gripper"):
        raise UserError(f"action '{channel.name}': the demonstrator moves no joint '{channel.joint}'")
    if channel.joint == "gripper" and channel.range is None:
        raise UserError(f"action '{channel.name}' needs a range: the demonstrator opens grippers from 0 to 1")


def _column(channel: ActionChannel, trajectory: Trajectory) -> np.ndarray:
    arm = arm_of(channel.sink, "sink")
    if channel.joint == "gripper":
        return trajectory.opening[arm]
    return trajectory.arm_rad[arm][:, ARM_JOINTS.index(channel.joint)]
