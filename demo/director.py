"""Gives the demo's cues: calls services, watches status topics, waits with deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from tqdm import tqdm

from demo.stage import Stage, StageError
from vla_msgs.msg import EpisodeStatus, PolicyStatus, RigCommand, TaskStatus
from vla_msgs.srv import ResetWorld, StartEpisode, StopEpisode
from vla_rig import qos

AFTER_SUCCESS_S = 2.5
"""Held by both hands counts as success already; this shows whether the policy also lets go."""


class Director:
    """A small ROS client for one stage. Every wait ends in StageError when a process dies or time is up."""

    def __init__(self, stage: Stage, domain: int) -> None:
        self._stage = stage
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = Node("director", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients = {}
        self.task, self.episode, self.policy, self.done = TaskStatus(), EpisodeStatus(), PolicyStatus(), False
        self.command = RigCommand()
        for kind, topic, name, profile in (
            (TaskStatus, "task_status", "task", qos.reliable(10)),
            (EpisodeStatus, "recorder/status", "episode", qos.STATUS),
            (PolicyStatus, "policy/status", "policy", qos.STATUS),
            (RigCommand, "command", "command", qos.RECORD),
        ):
            self._node.create_subscription(kind, topic, lambda m, n=name: setattr(self, n, m), profile)
        self._node.create_subscription(
            Bool, "demonstrator/done", lambda m: setattr(self, "done", m.data), qos.STATUS
        )

    def __enter__(self) -> Director:
        return self

    def __exit__(self, *_) -> None:
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float) -> None:
        """Spin until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._executor.spin_once(timeout_sec=0.1)
            self._stage.check()
            if time.monotonic() > deadline:
                raise StageError(f"waited {timeout_s:g} s for {what} in vain\n{self._stage.tail()}")

    def call(self, kind: type, name: str, timeout_s: float = 60.0, **fields):
        """Call a service; StageError with its own words when it answers success = False."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self._node.create_client(kind, name)
        self.wait(f"service {name}", client.service_is_ready, timeout_s)
        future = client.call_async(kind.Request(**fields))
        self.wait(f"an answer of {name}", future.done, timeout_s)
        response = future.result()
        if not response.success:
            raise StageError(f"{name}: {response.message}\n{self._stage.tail()}")
        return response

    def reset(self, seed: int) -> None:
        self.call(ResetWorld, "sim_rig/reset", task="", seed=seed)
        self.wait("the reset world", lambda: self.task.seed == seed, 30)

    def demonstrate(self, seed: int, instruction: str) -> StopEpisode.Response:
        """One teleoperated episode: the demonstrator moves the leaders, teleop mirrors, the recorder records."""
        self.reset(seed)
        self.command, self.done = RigCommand(), False
        self.wait("teleop to mirror the leaders", lambda: bool(self.command.names), 60)
        self.call(StartEpisode, "recorder/start", instruction=instruction)
        self.call(Trigger, "demonstrator/start")
        with self._bar(f"demonstration, seed {seed}") as bar:
            self.wait("the demonstration's end", lambda: self._watch(bar) or self.done, 240)
            self._settle(bar)
        label = StopEpisode.Request.LABEL_SUCCESS if self.task.success else StopEpisode.Request.LABEL_FAILURE
        return self.call(
            StopEpisode, "recorder/stop", save=True, label=label, end_reason="demonstration over"
        )

    def roll_out(
        self, seed: int, instruction: str, limit_s: float
    ) -> tuple[StopEpisode.Response, PolicyStatus]:
        """One episode driven by the policy, until it has handed over and let go, or limit_s of simulated time."""
        self.reset(seed)
        self.call(StartEpisode, "recorder/start", instruction=instruction)
        self.call(Trigger, "policy/start")
        end_s = self._sim_s() + limit_s
        with self._bar(f"policy, seed {seed}") as bar:
            self.wait("the task", lambda: self._watch(bar) or self.task.success or self._sim_s() > end_s, 400)
            end_s = min(end_s, self._sim_s() + AFTER_SUCCESS_S)
            self.wait("the rollout's end", lambda: self._watch(bar) or self._sim_s() > end_s, 200)
        label = StopEpisode.Request.LABEL_SUCCESS if self.task.success else StopEpisode.Request.LABEL_FAILURE
        reason = "task done" if self.task.success else "time limit"
        saved = self.call(StopEpisode, "recorder/stop", save=True, label=label, end_reason=reason)
        status = self.policy
        self.call(Trigger, "policy/stop")
        return saved, status

    def _settle(self, bar: tqdm) -> None:
        """Let the task be held after the last movement."""
        end_s = self._sim_s() + 0.6
        self.wait("the last half second", lambda: self._watch(bar) or self._sim_s() > end_s, 60)

    def _sim_s(self) -> float:
        return self.task.header.stamp.sec + self.task.header.stamp.nanosec * 1e-9

    def _bar(self, title: str) -> tqdm:
        style = "  {desc}: {n_fmt} rows [{elapsed}, {rate_fmt}]{postfix}"
        return tqdm(desc=title, unit=" rows", bar_format=style, disable=None)  # None: only on a terminal

    def _watch(self, bar: tqdm) -> bool:
        bar.set_postfix_str(f"reward {self.task.reward} of 4", refresh=False)
        if self.episode.rows > bar.n:
            bar.update(self.episode.rows - bar.n)
        return False
