"""The two ALOHA tasks of the ACT paper: where objects start, the staged reward, held success.

Rewards follow act sim_env.py: contact of named geoms decides, the highest stage counts. Success is
stricter than ACT's: reward 4 must hold without a break, because a momentary touch proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

MAX_REWARD = 4
HOLD_S = 0.5

Touching = Callable[[str, str], bool]
"""Whether two named geoms are in contact."""

LEFT_FINGER = "vx300s_left/10_left_gripper_finger"
RIGHT_FINGER = "vx300s_right/10_right_gripper_finger"
SOCKET_WALLS = ("socket-1", "socket-2", "socket-3", "socket-4")


@dataclass(frozen=True)
class SceneObject:
    """A free object and the box of positions (m) in which it starts, lying on the table, unrotated."""

    name: str
    joint: str
    x: tuple[float, float]
    y: tuple[float, float]
    z: float
    """Height of its origin when it lies on the table; ACT lets it drop from 0.05 m instead."""


@dataclass(frozen=True)
class Task:
    name: str
    objects: tuple[SceneObject, ...]
    stages: Callable[[Touching], tuple[bool, bool, bool, bool]]

    @property
    def object_joints(self) -> tuple[str, ...]:
        return tuple(o.joint for o in self.objects)

    def sample_poses(self, seed: int) -> list[np.ndarray]:
        """Start pose (x, y, z, qw, qx, qy, qz) of each object; the same seed gives the same poses.

        Raises ValueError for a negative seed.
        """
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        rng = np.random.default_rng(seed)
        return [
            np.array([rng.uniform(*o.x), rng.uniform(*o.y), o.z, 1.0, 0.0, 0.0, 0.0]) for o in self.objects
        ]

    def reward(self, model: mujoco.MjModel, data: mujoco.MjData) -> int:
        """ACT's staged reward, 0 .. 4: the highest stage that holds now."""
        pairs = {frozenset(pair) for pair in data.contact.geom.tolist()}

        def touching(a: str, b: str) -> bool:
            return frozenset((model.geom(a).id, model.geom(b).id)) in pairs

        return max((i + 1 for i, holds in enumerate(self.stages(touching)) if holds), default=0)


def _transfer_stages(touching: Touching) -> tuple[bool, bool, bool, bool]:
    lifted = not touching("red_box", "table")
    right, left = touching("red_box", RIGHT_FINGER), touching("red_box", LEFT_FINGER)
    return right, right and lifted, left, left and lifted


def _insertion_stages(touching: Touching) -> tuple[bool, bool, bool, bool]:
    held = touching("red_peg", RIGHT_FINGER) and any(touching(wall, LEFT_FINGER) for wall in SOCKET_WALLS)
    lifted = not any(touching(geom, "table") for geom in ("red_peg", *SOCKET_WALLS))
    meet = any(touching("red_peg", wall) for wall in SOCKET_WALLS)
    return held, held and lifted, meet and lifted, touching("red_peg", "pin")


TASKS = {
    task.name: task
    for task in (
        Task(
            "transfer_cube",
            (SceneObject("cube", "red_box_joint", (0.0, 0.2), (0.4, 0.6), 0.02),),
            _transfer_stages,
        ),
        Task(
            "insertion",
            (
                SceneObject("peg", "red_peg_joint", (0.1, 0.2), (0.4, 0.6), 0.01),
                SceneObject("socket", "blue_socket_joint", (-0.2, -0.1), (0.4, 0.6), 0.022),
            ),
            _insertion_stages,
        ),
    )
}


def find_task(name: str) -> Task:
    """Raises ValueError that lists the known tasks."""
    if name not in TASKS:
        raise ValueError(f"unknown task '{name}', expected one of: {', '.join(TASKS)}")
    return TASKS[name]


class Judge:
    """Follows a task's reward over time and decides success: reward 4 held for hold_s without a break."""

    def __init__(self, hold_s: float = HOLD_S):
        self.hold_s = hold_s
        self.reset()

    def reset(self) -> None:
        self.reward = self.max_reward = 0
        self.held_s = 0.0
        self.success = False
        """Stays true once reached, until the next reset."""

    def update(self, reward: int, dt_s: float) -> None:
        """Account for one step of dt_s seconds at whose end the reward was seen."""
        self.held_s = self.held_s + dt_s if reward == MAX_REWARD and self.reward == MAX_REWARD else 0.0
        self.reward = reward
        self.max_reward = max(self.max_reward, reward)
        self.success = self.success or self.held_s >= self.hold_s - 1e-9
