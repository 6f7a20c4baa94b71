"""The scripted demonstrator: object poses -> a joint-space trajectory of both leader arms.

The schedule follows ACT's scripted policies (act scripted_policy.py): tool waypoints, planned once
from the objects' poses. ACT drags the arms by mocap welds, which breaks on MuJoCo >= 3; here the
waypoints are joined by minimum-jerk motion and solved by inverse kinematics, so that what is played
is what a person's leader arms would send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vla_sim.kinematics import ArmKinematics
from vla_sim.world import ARMS, START_ARM_RAD

MAX_VELOCITY_RAD_S = 3.0
"""Faster plans are refused: the gate would cut them (ALOHA's joints: 3.14 rad/s)."""


class PlanError(ValueError):
    """A trajectory that the rig could not follow."""


@dataclass(frozen=True)
class Waypoint:
    """Where the tool is at a time, and how far the gripper is open (0 closed .. 1 open)."""

    t_s: float
    position: np.ndarray
    orientation: Rotation
    opening: float
    straight: bool
    """Come in a straight line (near objects); otherwise by the shortest joint motion, which knows no singularity."""


@dataclass(frozen=True)
class Trajectory:
    """Leader commands on the control grid. arm_rad: {arm: (T, 6)}, opening: {arm: (T,)} 0 closed .. 1 open."""

    arm_rad: dict[str, np.ndarray]
    opening: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.opening["left"])


Poses = dict[str, np.ndarray]
"""Object name -> pose (x, y, z, qw, qx, qy, qz), world frame, metres."""

Start = dict[str, tuple[np.ndarray, Rotation]]
"""Arm -> tool position and orientation at the start."""

INWARD = {"left": Rotation.identity(), "right": Rotation.from_euler("z", 180, degrees=True)}
"""The grippers level, pointing at each other."""


def _pitched(arm: str, down_deg: float) -> Rotation:
    return INWARD[arm] * Rotation.from_euler("y", down_deg, degrees=True)


def _track(start: tuple[np.ndarray, Rotation], *rows: tuple) -> list[Waypoint]:
    """Waypoints from (t_s, position or None, orientation or None, opening[, "line"]); None keeps the one before."""
    track = [Waypoint(0.0, *start, 0.0, False)]
    for t_s, position, orientation, opening, *line in rows:
        last = track[-1]
        track.append(
            Waypoint(
                t_s,
                last.position if position is None else np.asarray(position, dtype=float),
                last.orientation if orientation is None else orientation,
                opening,
                bool(line),
            )
        )
    return track


def _beside(point: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return point + np.array([x, y, z])


def transfer_cube_waypoints(poses: Poses, start: Start) -> dict[str, list[Waypoint]]:
    """Right arm picks the cube from above, left arm takes it in mid-air by its top and bottom faces."""
    cube = poses["cube"][:3]
    meet = np.array([0.0, 0.5, 0.25])
    rolled = Rotation.from_euler("x", 90, degrees=True)
    right = _track(
        start["right"],
        (1.2, _beside(cube, 0, 0, 0.08), _pitched("right", 75), 1.0),
        (1.7, cube, None, 1.0, "line"),
        (2.1, None, None, 0.0),
        (3.2, meet, None, 0.0),
        (4.4, None, None, 0.0),
        (4.8, None, None, 1.0),
        (5.6, _beside(meet, 0.06, 0, 0.12), None, 1.0, "line"),
    )
    left = _track(
        start["left"],
        (1.4, None, None, 0.0),
        (3.0, _beside(meet, -0.12, 0, 0), rolled, 1.0),
        (3.8, meet, None, 1.0, "line"),
        (4.2, None, None, 0.0),
        (4.8, None, None, 0.0),
        (5.6, _beside(meet, -0.10, 0, 0), None, 0.0, "line"),
    )
    return {"left": left, "right": right}


def insertion_waypoints(poses: Poses, start: Start) -> dict[str, list[Waypoint]]:
    """Each arm lifts its object by the middle; peg and socket meet in mid-air along x."""
    meet = np.array([0.0, 0.5, 0.18])
    tracks = {}
    for arm, name, side, above in (("right", "peg", 1.0, 0.0065), ("left", "socket", -1.0, 0.0)):
        lift = np.array([0.0, 0.0, above])  # keeps the finger tips off the table when the object is flat
        grasp, aligned = poses[name][:3] + lift, meet + lift
        tracks[arm] = _track(
            start[arm],
            (1.3, _beside(grasp, 0, 0, 0.08), _pitched(arm, 75), 1.0),
            (1.8, grasp, None, 1.0, "line"),
            (2.2, None, None, 0.0),
            (2.7, None, None, 0.0),
            (4.0, _beside(aligned, side * 0.12, 0, 0), None, 0.0),
            (5.2, _beside(aligned, side * 0.048, 0, 0), None, 0.0, "line"),
        )
    return tracks


@dataclass(frozen=True)
class Script:
    waypoints: Callable[[Poses, Start], dict[str, list[Waypoint]]]
    duration_s: float


SCRIPTS = {
    "transfer_cube": Script(transfer_cube_waypoints, 6.0),
    "insertion": Script(insertion_waypoints, 6.4),
}


def plan(
    model: mujoco.MjModel,
    task: str,
    poses: Poses,
    rate_hz: float = 50.0,
    start_rad: np.ndarray = START_ARM_RAD,
) -> Trajectory:
    """Plan a demonstration; deterministic for the poses.

    Row k is the command at k / rate_hz. Both arms start at start_rad (6,), grippers closed. The
    servos' sag under gravity is compensated, as a person at the leaders would by eye.
    Raises UnreachableError when an object is out of reach, PlanError when a joint would be too fast.
    """
    script = SCRIPTS[task]
    times = np.arange(round(script.duration_s * rate_hz) + 1) / rate_hz
    kinematics = {arm: ArmKinematics(model, arm) for arm in ARMS}
    tracks = script.waypoints(poses, {arm: k.tool(start_rad) for arm, k in kinematics.items()})
    arm_rad, opening = {}, {}
    for arm in ARMS:
        arm_rad[arm], opening[arm] = _follow(kinematics[arm], tracks[arm], times, start_rad)
        speed = np.abs(np.diff(arm_rad[arm], axis=0)).max() * rate_hz
        if speed > MAX_VELOCITY_RAD_S:
            raise PlanError(f"{arm} arm would need {speed:.2f} rad/s, limit {MAX_VELOCITY_RAD_S} rad/s")
    return Trajectory(arm_rad, opening)


def minimum_jerk(u: np.ndarray) -> np.ndarray:
    """Progress 0 .. 1 at relative time u: the smoothest point-to-point motion (Flash & Hogan 1985, equation 1)."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u**2)


def _follow(
    kinematics: ArmKinematics, track: list[Waypoint], times_s: np.ndarray, start_rad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joint angles (T, 6) and openings (T,) along a track, sag compensated; the last waypoint is held."""
    arm_rad, opening = np.tile(start_rad, (len(times_s), 1)), np.zeros(len(times_s))
    near = start_rad
    for last, goal in pairwise(track):
        rows = np.flatnonzero(times_s > last.t_s)
        progress = minimum_jerk((times_s[rows] - last.t_s) / (goal.t_s - last.t_s))
        arm_rad[rows] = _segment(kinematics, last, goal, progress, near)
        opening[rows] = last.opening + progress * (goal.opening - last.opening)
        near = arm_rad[-1]
    return arm_rad - np.array([kinematics.sag(row) for row in arm_rad]), opening


def _segment(
    kinematics: ArmKinematics, last: Waypoint, goal: Waypoint, progress: np.ndarray, near: np.ndarray
) -> np.ndarray:
    """Joint angles (len(progress), 6) from last, where the joints are at near, to goal."""
    if not goal.straight:
        target = kinematics.solve(goal.position, goal.orientation, near)
        return near + progress[:, None] * (target - near)
    turns = Slerp([0.0, 1.0], Rotation.concatenate([last.orientation, goal.orientation]))(progress)
    points = last.position + progress[:, None] * (goal.position - last.position)
    out = []
    for point, turn in zip(points, turns, strict=True):
        near = kinematics.solve(point, turn, near)
        out.append(near)
    return np.array(out)
