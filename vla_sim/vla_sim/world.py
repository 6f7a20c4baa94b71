"""The simulated ALOHA: physics, and state and commands by arm and joint name.

The model is the MJCF of the ACT paper as carried by the gym_aloha package, loaded with MuJoCo
itself. Two ViperX 300 arms and one or two free objects on a table; 2 ms physics steps.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from vla_sim.gripper import angle_from_finger, angular_velocity, finger_from_angle

ARMS = ("left", "right")
ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
JOINTS = (*ARM_JOINTS, "gripper", "left_finger", "right_finger")
"""What the real driver reports per arm, in its order; the gripper in rad, the fingers in m."""

START_ARM_RAD = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0])
START_FINGER_M = 0.02239
"""ACT's start pose (act constants.py START_ARM_POSE)."""

MODEL_FILES = {
    "transfer_cube": "bimanual_viperx_transfer_cube.xml",
    "insertion": "bimanual_viperx_insertion.xml",
}


def load_spec(task: str) -> mujoco.MjSpec:
    """The MJCF of a task, to be extended (cameras) before compiling.

    Raises ValueError for an unknown task, RuntimeError when gym_aloha is not installed.
    """
    if task not in MODEL_FILES:
        raise ValueError(f"unknown task '{task}', expected one of: {', '.join(MODEL_FILES)}")
    package = importlib.util.find_spec("gym_aloha")
    if package is None or package.origin is None:
        raise RuntimeError(
            "the simulated ALOHA needs the model files of the gym-aloha package: pip install gym-aloha"
        )
    return mujoco.MjSpec.from_file(str(Path(package.origin).parent / "assets" / MODEL_FILES[task]))


@dataclass(frozen=True)
class ArmIndex:
    """Where one arm lives in the model's vectors; arrays follow ARM_JOINTS, fingers are (left, right)."""

    qpos: np.ndarray
    qvel: np.ndarray
    ctrl: np.ndarray
    finger_qpos: np.ndarray
    finger_qvel: np.ndarray
    finger_ctrl: np.ndarray
    gripper_body: int

    @classmethod
    def of(cls, model: mujoco.MjModel, arm: str) -> ArmIndex:
        def rows(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            joints = [model.joint(f"vx300s_{arm}/{name}") for name in names]
            by_joint = {int(model.actuator_trnid[i, 0]): i for i in range(model.nu)}
            return (
                np.array([j.qposadr[0] for j in joints]),
                np.array([j.dofadr[0] for j in joints]),
                np.array([by_joint[j.id] for j in joints]),
            )

        body = model.body(f"vx300s_{arm}/gripper_link").id
        return cls(*rows(ARM_JOINTS), *rows(("left_finger", "right_finger")), body)


@dataclass(frozen=True)
class JointReading:
    """One arm's joints in the order of JOINTS: (9,) float64 each, rad and m, their rates, Nm and N."""

    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray


class World:
    """Physics of one task's scene. Not thread-safe: one thread owns it."""

    def __init__(self, model: mujoco.MjModel, object_joints: tuple[str, ...]):
        self.model = model
        self.data = mujoco.MjData(model)
        self.arms = {arm: ArmIndex.of(model, arm) for arm in ARMS}
        self._objects = [int(model.joint(name).qposadr[0]) for name in object_joints]
        self._object_dofs = [int(model.joint(name).dofadr[0]) for name in object_joints]
        self._finger_range = model.actuator_ctrlrange[self.arms["left"].finger_ctrl[0]].copy()
        self.reset([np.r_[self.data.qpos[a : a + 7]] for a in self._objects])

    def reset(self, object_poses: list[np.ndarray]) -> None:
        """Arms to the start pose, objects to the given poses (x, y, z, qw, qx, qy, qz), everything at rest."""
        mujoco.mj_resetData(self.model, self.data)
        for index in self.arms.values():
            self.data.qpos[index.qpos] = self.data.ctrl[index.ctrl] = START_ARM_RAD
            fingers = START_FINGER_M * np.array([1.0, -1.0])
            self.data.qpos[index.finger_qpos] = self.data.ctrl[index.finger_ctrl] = fingers
        self.set_object_poses(object_poses)

    def set_object_poses(self, poses: list[np.ndarray]) -> None:
        for address, dof, pose in zip(self._objects, self._object_dofs, poses, strict=True):
            self.data.qpos[address : address + 7] = pose
            self.data.qvel[dof : dof + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def object_poses(self) -> list[np.ndarray]:
        """Pose of each object (x, y, z, qw, qx, qy, qz), world frame, metres."""
        return [self.data.qpos[a : a + 7].copy() for a in self._objects]

    def command(self, arm: str, joint: str, value: float) -> None:
        """Set the position target of one joint: rad for arm joints and the gripper motor.

        Targets are clipped to the actuator's range, as the servo's own limits would.
        """
        index = self.arms[arm]
        if joint == "gripper":
            finger = np.clip(finger_from_angle(value), *self._finger_range)
            self.data.ctrl[index.finger_ctrl] = finger, -finger
            return
        actuator = index.ctrl[ARM_JOINTS.index(joint)]
        self.data.ctrl[actuator] = np.clip(value, *self.model.actuator_ctrlrange[actuator])

    def step(self, substeps: int) -> None:
        """Advance by substeps physics steps (10 x 2 ms at 50 Hz)."""
        mujoco.mj_step(self.model, self.data, substeps)

    def read(self, arm: str) -> JointReading:
        """The arm's joints as the real driver names them.

        The gripper motor is the left finger seen through the linkage. Unlike the real driver, which
        reports 0, finger velocity and force are true; the gripper's effort is the actuator force on
        the left finger (N), the only measure of grip the model has.
        """
        index, data = self.arms[arm], self.data
        finger, speed = data.qpos[index.finger_qpos], data.qvel[index.finger_qvel]
        force = data.qfrc_actuator[index.finger_qvel]
        position = np.r_[data.qpos[index.qpos], angle_from_finger(finger[0]), finger]
        velocity = np.r_[data.qvel[index.qvel], angular_velocity(finger[0], speed[0]), speed]
        effort = np.r_[data.qfrc_actuator[index.qvel], force[0], force]
        return JointReading(position, velocity, effort)
