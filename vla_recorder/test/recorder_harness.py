"""Real processes around a recorder: publishers, the recorder itself, and an operator who calls its services."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from recorder_terminal import ON_TERMINAL, Terminal
from std_srvs.srv import Trigger
from support.processes import DEADLINE_S
from support.services import until_known

from vla_msgs.msg import EpisodeStatus
from vla_msgs.srv import SetInstruction, StartEpisode, StopEpisode
from vla_rig import qos

HERE = Path(__file__).parent
RIG = HERE.parents[1] / "config" / "aloha_sim.yaml"


class Scene:
    """Starts processes in one domain and ends them; `until` waits for a condition on the recorder's status."""

    def __init__(self, domain: int, folder: Path):
        self.folder = folder
        self._environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
        self._processes, self._sim = [], False
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("operator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._watch("recorder")

    def _watch(self, name):
        """Which recorder is meant from now on."""
        self._name, self.status, self.statuses, self._clients = name, EpisodeStatus(), 0, {}
        self._start = self.node.create_client(StartEpisode, f"{name}/start")
        self._stop = self.node.create_client(StopEpisode, f"{name}/stop")
        self.node.create_subscription(EpisodeStatus, f"{name}/status", self._on_status, qos.STATUS)

    def _on_status(self, message):
        self.status = message
        self.statuses += 1

    def process(self, *args, **more):
        process = subprocess.Popen(
            [sys.executable, *map(str, args)], env=self._environment, cwd=self.folder, text=True, **more
        )
        self._processes.append(process)
        return process

    def publisher(self, clock="sim", **options):
        """All streams of the rig, or those that `only` names, to be told what they do (`tell`)."""
        self._sim = clock != "real"
        more = [f"{name}={value}" for name, value in options.items()]
        return self.process(HERE / "recorder_rig_publisher.py", RIG, clock, *more, stdin=subprocess.PIPE)

    def tell(self, publisher, **modes):
        publisher.stdin.write(json.dumps(modes) + "\n")
        publisher.stdin.flush()

    def recorder(self, *options, terminal=None, name="recorder", **more):
        """The recorder, its service ready; with `terminal` as its controlling one.

        A file descriptor is its stdin, a recorder_terminal.Terminal also its stdout and stderr.
        """
        if name != self._name:
            self._watch(name)
        # patient: a loaded machine delays messages
        parameters = ["--ros-args", "-p", "settle_s:=0.5", "-p", f"use_sim_time:={self._sim}".lower()]
        own = ["--rig", RIG, "--folder", self.folder, *options, *parameters, "-r", f"__node:={name}"]
        start = ["-m", "vla_recorder.record"]
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | more
        if terminal is not None:
            start, more = ["-c", ON_TERMINAL, *start], more | {"stdin": terminal, "start_new_session": True}
        if isinstance(terminal, Terminal):
            more |= dict.fromkeys(("stdin", "stdout", "stderr"), terminal.inside)
        process = self.process(*start, *own, **more)

        def ready():
            assert process.poll() is None, f"the recorder ended:\n{process.communicate()[0]}"
            return self._start.service_is_ready()

        self.spin(ready)
        self.spin(self._stop.service_is_ready)
        until_known(self.node, name, self.spin)
        return process

    def spin(self, condition, what=""):
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"not in time: {what}; last status: {self.status}"
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds):
        end_s = time.monotonic() + seconds
        self.spin(lambda: time.monotonic() > end_s)

    def call(self, client, request):
        future = client.call_async(request)
        self.spin(future.done)
        return future.result()

    def start(self, instruction="hand over the cube", countdown_s=0.0):
        return self.call(self._start, StartEpisode.Request(instruction=instruction, countdown_s=countdown_s))

    def trigger(self, name):
        """The answer of one of the recorder's Trigger services."""
        return self.call(self._client(Trigger, name), Trigger.Request())

    def say(self, name, text):
        return self.call(self._client(SetInstruction, name), SetInstruction.Request(instruction=text))

    def set_parameter(self, name, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        assert self.call(self._client(SetParameters, "set_parameters"), request).results[0].successful

    def _client(self, kind, name):
        key = f"{self._name}/{name}"
        if key not in self._clients:
            self._clients[key] = self.node.create_client(kind, key)
            self.spin(self._clients[key].service_is_ready, key)
            until_known(self.node, self._name, self.spin)
        return self._clients[key]

    def stop(self, label=1, **given):
        """Without `save` it is what a request says that says nothing: to save."""
        return self.call(self._stop, StopEpisode.Request(label=label, **given))

    def until_heard(self):
        """Every stream of the rig, those included that rows can do without."""
        self.spin(lambda: len(self.status.streams) == 9 and not any(s.reason for s in self.status.streams))

    def until_rows(self, rows):
        self.spin(lambda: self.status.rows >= rows)

    def until_statuses(self, number):
        """So many more."""
        end = self.statuses + number
        self.spin(lambda: self.statuses >= end)

    def stream(self, name):
        return next(stream for stream in self.status.streams if stream.name == name)

    def close(self):
        for process in self._processes:
            if process.poll() is None and process.stdin is None:
                process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                process.communicate(timeout=DEADLINE_S)  # closes stdin: a publisher ends
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.node.destroy_node()
        self._context.try_shutdown()


@contextlib.contextmanager
def scene(folder: Path, domain: int):
    stage = Scene(domain, folder)
    try:
        yield stage
    finally:
        stage.close()
