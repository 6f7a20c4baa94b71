"""Forward and inverse kinematics of one arm's tool, on a private copy of the state.

Damped least squares on MuJoCo's Jacobian (Nakamura & Hanafusa 1986; Buss 2004, section 5), with joint
limits by clipping. mink offers more (tasks, collision avoidance by QP); a six-joint arm needs none of it.
"""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from vla_sim.world import ArmIndex

TOOL_M = np.array([0.14, 0.0, 0.0])
"""The grasp point in the gripper's frame: between the finger pads, 14 mm short of their tips.
The frame's x axis points out of the gripper, its y axis from finger to finger."""

POSITION_TOLERANCE_M = 1e-5
ROTATION_TOLERANCE_RAD = 1e-4
LIMIT_MARGIN_RAD = 0.01


class UnreachableError(ValueError):
    """No joint angles bring the tool to the asked pose."""


class ArmKinematics:
    """Kinematics of one arm; the other joints of the model do not matter."""

    def __init__(self, model: mujoco.MjModel, arm: str):
        self.arm = arm
        self._model = model
        self._data = mujoco.MjData(model)
        self._index = ArmIndex.of(model, arm)
        joints = model.dof_jntid[self._index.qvel]
        self._lower = model.jnt_range[joints, 0] + LIMIT_MARGIN_RAD
        self._upper = model.jnt_range[joints, 1] - LIMIT_MARGIN_RAD
        self._stiffness = model.actuator_gainprm[self._index.ctrl, 0]

    def tool(self, arm_rad: np.ndarray) -> tuple[np.ndarray, Rotation]:
        """Tool position (3,) m and orientation, world frame, at joint angles (6,)."""
        self._data.qpos[self._index.qpos] = arm_rad
        mujoco.mj_kinematics(self._model, self._data)
        body = self._index.gripper_body
        matrix = self._data.xmat[body].reshape(3, 3)
        return self._data.xpos[body] + matrix @ TOOL_M, Rotation.from_matrix(matrix)

    def solve(
        self, position: np.ndarray, orientation: Rotation, near_rad: np.ndarray, iterations: int = 100
    ) -> np.ndarray:
        """Joint angles (6,) near near_rad that bring the tool to a pose.

        Raises UnreachableError when the pose is not met within 0.01 mm and 0.1 mrad.
        """
        arm_rad = np.array(near_rad, dtype=float)
        for _ in range(iterations):
            at, turned = self.tool(arm_rad)
            error = np.r_[position - at, (orientation * turned.inv()).as_rotvec()]
            distance, angle = np.linalg.norm(error[:3]), np.linalg.norm(error[3:])
            if distance < POSITION_TOLERANCE_M and angle < ROTATION_TOLERANCE_RAD:
                return arm_rad
            jacobian = self._jacobian(at)
            damping = 1e-6 + 1e-2 * float(error @ error)
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping * np.eye(6), error)
            arm_rad = np.clip(arm_rad + np.clip(step, -0.3, 0.3), self._lower, self._upper)
        raise UnreachableError(
            f"{self.arm} arm cannot reach {np.round(position, 3).tolist()} m: "
            f"{distance * 1e3:.1f} mm and {np.degrees(angle):.1f} degrees remain"
        )

    def sag(self, arm_rad: np.ndarray) -> np.ndarray:
        """How far gravity pulls each joint (6,) rad off its target: gravity torque over servo stiffness."""
        self._data.qpos[self._index.qpos] = arm_rad
        self._data.qvel[:] = 0.0
        mujoco.mj_forward(self._model, self._data)
        return -self._data.qfrc_bias[self._index.qvel] / self._stiffness

    def _jacobian(self, point: np.ndarray) -> np.ndarray:
        mujoco.mj_comPos(self._model, self._data)
        jacobian = np.zeros((6, self._model.nv))
        body = self._index.gripper_body
        mujoco.mj_jac(self._model, self._data, jacobian[:3], jacobian[3:], point, body)
        return jacobian[:, self._index.qvel]
