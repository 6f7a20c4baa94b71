"""Node `demonstrator`: moves the leader arms through a demonstration, as a person would.

Each TaskStatus of the simulated rig is answered by one joint state per leader, with the same stamp:
the rest pose, then (after ~/start) the planned trajectory row by row, then its last row. What the
followers do with it is the teleop node's business.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vla_msgs.msg import TaskStatus
from vla_rig import qos
from vla_rig.nodes import UserError, describe, run_node
from vla_rig.rig_file import RigError, load_rig
from vla_sim.demonstrator import PlanError, plan
from vla_sim.kinematics import UnreachableError
from vla_sim.leaders import LeaderArms
from vla_sim.tasks import find_task
from vla_sim.world import load_spec

JUMP_M = 0.05
"""An object that moves further than this from one status to the next was put there by a reset."""


@dataclass
class _Playing:
    """Rows (T, A) to play, and the stamp of row 0 once it has been played."""

    rows: np.ndarray
    start_ns: int | None = None


class Demonstrator(Node):
    """See the module's docstring. Planning has its own thread; the leaders rest meanwhile."""

    def __init__(self) -> None:
        super().__init__("demonstrator")
        self.declare_parameter(
            "rig", "aloha_sim", describe("Rig file: a path or the name of an installed rig", read_only=True)
        )
        try:
            self._rig = load_rig(self.get_parameter("rig").value)
            self._leaders = LeaderArms(self._rig)
        except (RigError, ValueError) as error:
            raise UserError(str(error)) from None
        self._status: TaskStatus | None = None
        self._playing: _Playing | None = None
        self._requested = False
        self._planning: threading.Thread | None = None
        """The thread whose plan is wanted; a reset replaces it."""
        self._models: dict = {}
        self._lock = threading.Lock()  # what planning thread and executor share
        self._done = self.create_publisher(Bool, "~/done", qos.STATUS)
        self._leader_publishers = {
            name: self.create_publisher(JointState, self._rig.joint_sources[name].topic, qos.reliable(10))
            for name in self._rig.leader_sources
        }
        self.create_subscription(TaskStatus, "task_status", self._on_status, qos.reliable(10))
        self.create_service(Trigger, "~/start", self._on_start)
        self._announce(False)

    def _on_start(self, _request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            response.message = self._why_not()
            response.success = not response.message
            if response.success:
                self._playing, self._requested = None, True
                self._announce(False)
                response.message = f"demonstrating {self._status.task}"
        return response

    def _why_not(self) -> str:
        if self._status is None:
            return "no task_status has arrived: is sim_rig running?"
        if self._requested or self._planning is not None:
            return "planning already"
        if self._playing is not None and not self._finished:
            return "still demonstrating"
        return ""

    def _plan(self, status: TaskStatus) -> None:
        poses = {
            name: np.array([p.position.x, p.position.y, p.position.z, q.w, q.x, q.y, q.z])
            for name, p in zip(status.object_names, status.object_poses, strict=True)
            for q in (p.orientation,)
        }
        playing = None
        try:
            if status.task not in self._models:
                self._models[status.task] = load_spec(find_task(status.task).name).compile()
            trajectory = plan(self._models[status.task], status.task, poses, self._rig.control_rate_hz)
            playing = _Playing(self._leaders.rows(trajectory))
        except (UnreachableError, PlanError, ValueError) as error:
            self.get_logger().error(f"cannot demonstrate {status.task}, seed {status.seed}: {error}")
        with self._lock:
            if self._planning is threading.current_thread():
                self._planning, self._playing = None, playing

    def _on_status(self, status: TaskStatus) -> None:
        with self._lock:
            if self._status is not None and was_reset(self._status, status):
                # A plan in the making is for a world that is gone, but the wish for one is not.
                self._requested |= self._planning is not None
                self._planning = self._playing = None
                self._announce(False)
            self._status = status
            if self._requested:  # planned from a status newer than the request: a reset just before it counts
                self._requested = False
                self._planning = threading.Thread(target=self._plan, args=(status,), name="planning")
                self._planning.start()
            row = self._row(Time.from_msg(status.header.stamp).nanoseconds)
        for name, message in self._leaders.messages(row, status.header.stamp).items():
            self._leader_publishers[name].publish(message)

    def _row(self, t_ns: int) -> np.ndarray:
        """The action row (A,) for a stamp; announces the end when it is reached."""
        playing = self._playing
        if playing is None:
            return self._leaders.rest
        if playing.start_ns is None:
            playing.start_ns = t_ns
        k = round((t_ns - playing.start_ns) * 1e-9 * self._rig.control_rate_hz)
        if k >= len(playing.rows) - 1 and not self._finished:
            self._announce(True)
        return playing.rows[min(k, len(playing.rows) - 1)]

    def _announce(self, finished: bool) -> None:
        self._finished = finished
        self._done.publish(Bool(data=finished))

    def close(self) -> None:
        planning = self._planning
        if planning is not None:
            planning.join(timeout=5.0)


def was_reset(before: TaskStatus, now: TaskStatus) -> bool:
    """Whether the world was reset between two statuses: other seed or task, rewards gone, an object put elsewhere."""
    if (before.task, before.seed) != (now.task, now.seed) or now.max_reward < before.max_reward:
        return True
    moves = [
        abs(getattr(b.position, axis) - getattr(a.position, axis))
        for a, b in zip(before.object_poses, now.object_poses, strict=True)
        for axis in "xyz"
    ]
    return max(moves, default=0.0) > JUMP_M


def main() -> int:
    return run_node(Demonstrator, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
