"""Real processes around the simulated rig, in a ROS domain of their own, and a node that looks on."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import rclpy
import yaml
from ament_index_python.packages import get_package_prefix
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sim_trial import RIG_FILE
from support.processes import DEADLINE_S
from support.services import until_known

from vla_msgs.msg import TaskStatus
from vla_rig.rig_file import load_rig


def executable(package: str, name: str) -> str:
    return str(Path(get_package_prefix(package)) / "lib" / package / name)


def blind_rig(folder: Path) -> Path:
    """The simulated ALOHA without cameras: a tick costs 2 ms instead of 20."""
    resolved = yaml.safe_load(load_rig(RIG_FILE).to_yaml())
    path = folder / "blind.yaml"
    path.write_text(yaml.safe_dump(resolved | {"cameras": {}}))
    return path


def parameters(**values) -> list[str]:
    return ["--ros-args", *(word for k, v in values.items() for word in ("-p", f"{k}:={v}"))]


class Graph:
    """Starts processes and watches task_status and /clock; `until` waits for a condition, with a deadline."""

    def __init__(self, domain: int, folder: Path):
        self._environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "PYTHONFAULTHANDLER": "1"}
        self._folder, self._logs, self._processes = folder, {}, {}
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("onlooker", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict = {}
        self.status: TaskStatus | None = None
        self.clocks_ns: list[int] = []
        self.node.create_subscription(TaskStatus, "task_status", self._on_status, 10)
        self.node.create_subscription(Clock, "/clock", self._on_clock, 10)

    def _on_status(self, message):
        self.status = message

    def _on_clock(self, message):
        self.clocks_ns.append(stamp_ns(message.clock))

    def start(self, package: str, name: str, **values) -> subprocess.Popen:
        log = self._logs[name] = open(self._folder / f"{name}.log", "w+")  # noqa: SIM115
        command = [executable(package, name), *parameters(**values)]
        process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)
        self._processes[name] = process
        return process

    def log(self, name: str) -> str:
        return Path(self._logs[name].name).read_text()

    def until(self, condition, what: str):
        """Spin until condition() holds and return its value."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not (value := condition()):
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended early:\n{self.log(name)}"
            assert time.monotonic() < deadline_s, f"not in time: {what}; status {self.status}"
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def spin_for(self, seconds: float):
        """For what cannot be seen: that something does not happen."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.05)

    def call(self, kind, name: str, request):
        if name not in self._clients:
            client = self._clients[name] = self.node.create_client(kind, name)
            self.until(client.service_is_ready, f"service {name}")
            until_known(self.node, name.rpartition("/")[0], self.until)
        future = self._clients[name].call_async(request)
        self.until(future.done, f"answer of {name}")
        return future.result()

    def collect(self, kind, topic: str, **qos) -> list:
        """A list that fills with the messages of a topic."""
        messages: list = []
        self.node.create_subscription(kind, topic, messages.append, qos.get("profile", 50))
        return messages

    def interrupt(self, name: str) -> int:
        """SIGINT as Ctrl-C sends it; returns the exit code."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGINT)
        return process.wait(DEADLINE_S)

    def close(self):
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        hung = [name for name, process in self._processes.items() if not _ended(process)]
        for log in self._logs.values():
            log.close()
        self.node.destroy_node()
        self._context.try_shutdown()
        assert not hung, "\n".join(f"{name} did not end:\n{self.log(name)}" for name in hung)


def _ended(process: subprocess.Popen) -> bool:
    """Wait for the end; a process that hangs is made to print its stacks into its log."""
    try:
        process.wait(DEADLINE_S)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        process.wait(DEADLINE_S)
        return False


def stamp_ns(stamp) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


@contextlib.contextmanager
def graph(folder: Path, domain: int):
    opened = Graph(domain, folder)
    try:
        yield opened
    finally:
        opened.close()
