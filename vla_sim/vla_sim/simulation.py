"""One simulated task as the rig sees it: world, task and judge, advanced tick by tick. No ROS here."""

from __future__ import annotations

import mujoco

from vla_sim.cameras import add_cameras
from vla_sim.tasks import Judge, Task, find_task
from vla_sim.world import ARM_JOINTS, ARMS, START_ARM_RAD, World, load_spec

NEAR_START_RAD = 0.1
HOLD_START_S = 1.0


class Simulation:
    """A task's world on the control grid of dt_s seconds.

    After a reset the arms keep their start pose until their commands have come near it (at most
    HOLD_START_S): whoever commands them still stands where the last episode ended, and following
    that would sweep the objects off the table.
    """

    def __init__(self, task: str, seed: int, dt_s: float):
        """Raises ValueError for an unknown task, a bad seed, or a dt_s that is no multiple of the physics step."""
        self.dt_s = dt_s
        self._load(find_task(task))
        self.reset(task, seed)

    def _load(self, task: Task) -> None:
        spec = load_spec(task.name)
        add_cameras(spec)
        self.model: mujoco.MjModel = spec.compile()
        step_s = self.model.opt.timestep
        self._substeps = round(self.dt_s / step_s)
        if self._substeps < 1 or abs(self._substeps * step_s - self.dt_s) > 1e-9:
            raise ValueError(
                f"a control period of {self.dt_s * 1e3:g} ms is not a multiple of "
                f"the physics step of {step_s * 1e3:g} ms"
            )
        self.task = task
        self.world = World(self.model, task.object_joints)
        self.judge = Judge()

    def reset(self, task: str, seed: int) -> None:
        """Start pose, objects placed from the seed; an empty task keeps the current one.

        A new task means a new model: compare `model` to notice. Raises ValueError, and then nothing has changed.
        """
        wanted = find_task(task) if task else self.task
        poses = wanted.sample_poses(seed)
        if wanted is not self.task:
            self._load(wanted)
        self.seed = seed
        self.world.reset(poses)
        self.judge.reset()
        self._targets: dict[tuple[str, str], float] = {}
        self._hold_ticks = round(HOLD_START_S / self.dt_s)

    def command(self, arm: str, joint: str, value: float) -> None:
        """Set a position target, rad; it acts from the next tick on."""
        self._targets[arm, joint] = value

    @property
    def settled(self) -> bool:
        """Whether commands act; not yet, for a while after a reset."""
        return self._hold_ticks == 0

    def tick(self) -> None:
        """Advance by dt_s under the last commands and judge the outcome."""
        if not self.settled:
            self._hold_ticks = 0 if self._commands_near_start() else self._hold_ticks - 1
        if self.settled:
            for (arm, joint), value in self._targets.items():
                self.world.command(arm, joint, value)
        self.world.step(self._substeps)
        self.judge.update(self.task.reward(self.model, self.world.data), self.dt_s)

    def _commands_near_start(self) -> bool:
        """Whether every arm joint is commanded, and to near its start."""
        start = {
            (arm, joint): at for arm in ARMS for joint, at in zip(ARM_JOINTS, START_ARM_RAD, strict=True)
        }
        return all(
            key in self._targets and abs(self._targets[key] - at) < NEAR_START_RAD
            for key, at in start.items()
        )
