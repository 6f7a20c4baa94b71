"""Node `sim_rig`: the simulated ALOHA behind the topics of a rig file, with /clock and lockstep.

One thread owns physics and rendering; the executor's callbacks only store. A tick: step to
t_k = k * dt; publish joint states, task status and the images that are due, all stamped t_k; then
/clock = t_k; then, in lockstep, wait until every command topic has answered.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time

from vla_msgs.srv import ResetWorld
from vla_rig import qos
from vla_rig.nodes import UserError, describe, run_node
from vla_rig.rig_file import RigError, load_rig
from vla_rig.sinks import SinkError, decode, message_class
from vla_sim.cameras import QUALITIES, CameraRenderer
from vla_sim.lockstep import CommandInbox
from vla_sim.outputs import RigOutputs
from vla_sim.simulation import Simulation
from vla_sim.tasks import TASKS, find_task
from vla_sim.wiring import arm_of, check_rig


@dataclass
class _Reset:
    """A reset asked for by the service, carried out by the physics thread; done when commands act again."""

    task: str
    seed: int
    carried_out: bool = False
    done: Future = field(default_factory=Future)


class SimRig(Node):
    """The simulated rig; see the module's docstring for its tick."""

    def __init__(self) -> None:
        super().__init__("sim_rig")
        self._declare()
        try:
            self._rig = load_rig(self._value("rig"))
            check_rig(self._rig)
            dt_ns = round(1e9 / self._rig.control_rate_hz)
            self._simulation = Simulation(self._value("task"), self._value("seed"), dt_ns * 1e-9)
            if self._value("render") not in QUALITIES:
                raise ValueError(
                    f"parameter 'render' is '{self._value('render')}', expected one of {QUALITIES}"
                )
            self._dt_ns = dt_ns
            self._connect()
        except (RigError, SinkError, ValueError, RuntimeError) as error:
            raise UserError(str(error)) from None
        self.failure = ""
        self.lockstep_timeouts = 0
        self._stop = threading.Event()
        self._reset: _Reset | None = None
        self._thread = threading.Thread(target=self._run, name="physics")
        self._thread.start()

    def _declare(self) -> None:
        for name, default, descriptor in (
            (
                "rig",
                "aloha_sim",
                describe("Rig file: a path or the name of an installed rig", read_only=True),
            ),
            ("task", "transfer_cube", describe(f"Task at the start: {', '.join(TASKS)}", read_only=True)),
            ("seed", 0, describe("Seed of the objects' first placement", 0, 2**31 - 1, read_only=True)),
            (
                "lockstep",
                True,
                describe(
                    "Wait for every command topic after each tick (only while somebody publishes on it)"
                ),
            ),
            (
                "lockstep_timeout_s",
                0.5,
                describe("Longest wait for one tick's commands, wall time", 0.001, 60.0),
            ),
            (
                "real_time_factor",
                1.0,
                describe("Highest speed relative to wall time; 0: as fast as commands come", 0.0, 100.0),
            ),
            (
                "render",
                "fast",
                describe(
                    "Image quality: fast (no shadows, no smoothing) or fine (far slower)",
                    read_only=True,
                ),
            ),
        ):
            self.declare_parameter(name, default, descriptor)

    def _value(self, name: str):
        return self.get_parameter(name).value

    def _connect(self) -> None:
        rig = self._rig
        self._outputs = RigOutputs(self, rig)
        self._inbox = CommandInbox(list(rig.sinks))
        self._command_subscriptions = {
            name: self.create_subscription(
                message_class(sink.message), sink.topic, self._store(name), qos.COMMAND
            )
            for name, sink in rig.sinks.items()
        }
        # Its own group: while a reset waits, commands must go on, and a second reset has to wait.
        waiting = MutuallyExclusiveCallbackGroup()
        self.create_service(ResetWorld, "~/reset", self._on_reset, callback_group=waiting)

    def _store(self, sink: str):
        def store(message) -> None:
            stamp = getattr(getattr(message, "header", None), "stamp", None)
            self._inbox.put(sink, message, None if stamp is None else Time.from_msg(stamp).nanoseconds)

        return store

    async def _on_reset(
        self, request: ResetWorld.Request, response: ResetWorld.Response
    ) -> ResetWorld.Response:
        """Answers when the world has been reset and its commander is back at the start pose."""
        try:  # what can be wrong with it is found here, so that the physics thread only carries it out
            (find_task(request.task) if request.task else self._simulation.task).sample_poses(request.seed)
        except ValueError as error:
            response.message = str(error)
            return response
        reset = self._reset = _Reset(request.task, request.seed)
        self._inbox.interrupt()
        response.message = await reset.done
        response.success = True
        return response

    # The physics thread: everything below runs in it, but close().

    def _run(self) -> None:
        try:
            renderer = self._make_renderer()
            tick, due_s = 0, time.monotonic()
            while not self._stop.is_set() and self.context.ok():
                renderer = self._carry_out_reset(renderer)
                self._apply_commands()
                self._simulation.tick()
                tick += 1
                self._inbox.begin(tick * self._dt_ns)
                self._outputs.publish(tick, tick * self._dt_ns, self._simulation, renderer)
                self._wait_for_commands()
                due_s = self._pace(due_s)
            renderer.close()
        except Exception as error:  # a simulator without its physics thread must not look alive
            self.failure = f"{type(error).__name__}: {error}"
            self.get_logger().fatal(f"the simulation stopped: {self.failure}")
            self.context.try_shutdown()

    def _make_renderer(self) -> CameraRenderer:
        sizes = [(c.height, c.width) for c in self._rig.cameras.values()]
        return CameraRenderer(self._simulation.model, sizes, self._value("render"))

    def _carry_out_reset(self, renderer: CameraRenderer) -> CameraRenderer:
        reset = self._reset
        if reset is None:
            return renderer
        if not reset.carried_out:
            model = self._simulation.model
            self._simulation.reset(reset.task, reset.seed)
            self._inbox.take()  # commands for the old world
            reset.carried_out = True
            if self._simulation.model is not model:
                renderer.close()
                return self._make_renderer()
        elif self._simulation.settled or not self._commanded_sinks():
            self._reset = None
            where = f"{self._simulation.task.name}, seed {reset.seed}"
            self.get_logger().info(f"reset to {where}")
            reset.done.set_result(where)
        return renderer

    def _apply_commands(self) -> None:
        for name, message in self._inbox.take().items():
            try:
                values = decode(self._rig.sinks[name], "position", message)
            except SinkError as error:
                self.get_logger().error(f"command ignored: {error}", throttle_duration_sec=2.0)
                continue
            arm = arm_of(name, "sink")
            for joint, value in values.items():
                self._simulation.command(arm, joint, value)

    def _wait_for_commands(self) -> None:
        if not self._value("lockstep"):
            return
        missing = self._inbox.wait(self._commanded_sinks, self._value("lockstep_timeout_s"))
        if missing:
            self.lockstep_timeouts += 1
            topics = ", ".join(self._rig.sinks[name].topic for name in missing)
            self.get_logger().warning(
                f"lockstep: no command on {topics} within {self._value('lockstep_timeout_s'):g} s "
                f"({self.lockstep_timeouts} timeouts so far)",
                throttle_duration_sec=5.0,
            )

    def _commanded_sinks(self) -> list[str]:
        return [name for name, s in self._command_subscriptions.items() if s.get_publisher_count()]

    def _pace(self, due_s: float) -> float:
        """Sleep so that simulated time does not outrun wall time; lost time is not caught up.

        Without a speed limit lockstep sets the pace. Until somebody commands it cannot: then real time
        does, or those who are about to command would never catch up with the joint states.
        """
        factor, now_s = self._value("real_time_factor"), time.monotonic()
        if factor <= 0.0:
            if not self._value("lockstep") or self._commanded_sinks():
                return now_s
            factor = 1.0
        due_s = max(due_s + self._dt_ns * 1e-9 / factor, now_s)
        self._stop.wait(due_s - now_s)
        return due_s

    def close(self) -> None:
        self._stop.set()
        self._inbox.interrupt()
        self._thread.join(timeout=5.0)


def main() -> int:
    made: list[SimRig] = []

    def make() -> SimRig:
        made.append(SimRig())
        return made[0]

    return run_node(make, sys.argv) or int(any(node.failure for node in made))


if __name__ == "__main__":
    sys.exit(main())
