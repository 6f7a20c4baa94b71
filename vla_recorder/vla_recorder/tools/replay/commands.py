"""Node `replay`: an episode's commands, through the gate, to the rig's command topics."""

from __future__ import annotations

import time

import numpy as np

from vla_msgs.msg import RigCommand
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.progress import bar
from vla_recorder.tools.replay.node import Replay
from vla_recorder.tools.replay.trajectory import Trajectory, commands_of
from vla_rig.commander import Commander
from vla_rig.diagnostics import RigDiagnostics
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError, feedback_reader
from vla_rig.nodes import UserError
from vla_rig.rig import Rig
from vla_rig.sinks import SinkError
from vla_rig.ticker import Ticker

_START_PATIENCE_S = 10.0  # for the first joint states: nodes may take seconds to find each other
_PATIENCE_S = 3.0  # for joint states that stop coming
_TAIL_S = 3.0  # for the gate's speed limit to let the last command through
_LONGEST_STEP_S = 0.1  # ticks that were missed are caught up with to this extent
_LOCKSTEP_S = 0.5  # for a simulated tick's joint states


class CommandReplay(Replay):
    """Moves from the measured pose to the first command, then plays them all at `speed`.

    While joint states are missing or stale nothing is sent and the replay stands still; after _PATIENCE_S of that
    (_START_PATIENCE_S before the first) it fails. It refuses when somebody else commands the rig. When it ends,
    whatever the reason, followers hold the last command.
    """

    def __init__(self, episode: EpisodeReader, rig: Rig, speed: float) -> None:
        super().__init__()
        self._episode, self._rig, self._speed = episode, rig, speed
        recorded = list(episode.attributes.get("action_names", rig.action_names))
        if recorded != rig.action_names or episode.action.shape[1] != len(rig.action):
            raise EpisodeError(
                f"{episode.path}: its actions are {', '.join(episode.action_names)}; those of rig '{rig.name}' are "
                f"{', '.join(rig.action_names)}"
            )
        self._commands = commands_of(episode)
        try:
            self._feedback = feedback_reader(rig)
            self._commander = Commander(self, rig, RigCommand.SOURCE_REPLAY)
        except (JointError, SinkError) as error:
            raise UserError(str(error)) from None
        self._inputs = RigInputs(self, rig, sources=rig.follower_sources)
        self._diagnostics = RigDiagnostics(self, rig.name, self._inputs, self._commander.gate)
        self._ticker = Ticker(self, rig.control_rate_hz)
        self._healthy_s = time.monotonic()
        self._open, self._row = False, 0
        self._last_ns: int | None = None  # tick of the last command; None while standing still
        self.begin()

    def play(self) -> bool:
        trajectory, elapsed_s, before = None, 0.0, None
        with bar(len(self._commands), "replay") as progress:
            for t_ns in self._ticker:
                measured = self._measured(t_ns)
                if measured is None:
                    self._last_ns = None
                    continue
                if not self._open:
                    self._commander.open()  # looks for rivals for a while: what was measured is old afterwards
                    self._open = True
                    continue
                trajectory = trajectory or self._start(measured)
                elapsed_s += self._step_s(t_ns)
                passed = self._commander.command(trajectory.at(elapsed_s), measured, t_ns)
                self._row = trajectory.row(elapsed_s)
                progress.update(self._row + 1 - progress.n)
                over_s = elapsed_s - trajectory.duration_s
                if over_s > _TAIL_S or (over_s >= 0 and np.array_equal(passed.sent, before)):
                    self._report()
                    return True
                before = passed.sent
        return False

    def _step_s(self, t_ns: int) -> float:
        """How far the replay goes on with this tick; nowhere with the first one and after standing still."""
        last_ns, self._last_ns = self._last_ns, t_ns
        return 0.0 if last_ns is None else min((t_ns - last_ns) * 1e-9, _LONGEST_STEP_S)

    def _start(self, measured: np.ndarray) -> Trajectory:
        row_s = 1.0 / ((self._episode.control_rate_hz or self._rig.control_rate_hz) * self._speed)
        trajectory = Trajectory(self._rig, self._commands, row_s, measured)
        seconds = trajectory.duration_s - trajectory.approach_s
        self.get_logger().info(
            f"THE ROBOT MOVES: {trajectory.approach_s:.1f} s to the first command, then {len(self._commands)} rows in "
            f"{seconds:.1f} s; Ctrl-C stops and holds"
        )
        return trajectory

    def _measured(self, t_ns: int) -> np.ndarray | None:
        """(A,) where the commanded joints are, or None when that is not known. EpisodeError after _PATIENCE_S."""
        if self.get_clock().ros_time_is_active:
            self._inputs.wait_due(t_ns, _LOCKSTEP_S)
        sample = self._inputs.sample(t_ns)
        try:
            if not sample.ok:
                raise JointError("; ".join(sample.problems))
            measured = self._feedback.read(sample.values)
        except JointError as error:
            patience_s = _PATIENCE_S if self._open else _START_PATIENCE_S
            if time.monotonic() - self._healthy_s > patience_s:
                raise EpisodeError(
                    f"stopped at row {self._row}, for joint states are missing: {error}"
                ) from None
            self.get_logger().warning(f"standing still: {error}", throttle_duration_sec=1.0)
            return None
        self._healthy_s = time.monotonic()
        return measured

    def _report(self) -> None:
        counts = (
            ", ".join(f"{kind} {n}" for kind, n in sorted(self._commander.gate.counts.items())) or "nothing"
        )
        self.get_logger().info(
            f"replayed {len(self._commands)} rows; the gate changed: {counts}. Followers hold"
        )

    def close(self) -> None:
        if not self.finished and self._commander.sent:
            self.get_logger().info(f"stopped at row {self._row} of {len(self._commands)}: followers hold")
        self._commander.stop("shutting down")
        self._ticker.stop()
        super().close()
