"""A group of processes under vla_bringup.up in a process of its own, and what is left of it."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from support.processes import DEADLINE_S

# A process with a child, as a node with data-loader workers has; both say who they are.
PARENT = """
import os, signal, subprocess, sys, time
print("pid", os.getpid(), flush=True)
{handlers}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], stdout=subprocess.DEVNULL)
print("pid", child.pid, flush=True)
{then}
"""
QUIET = PARENT.format(handlers="", then="time.sleep(300)")
DEAF = PARENT.format(
    handlers="[signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)]",
    then="time.sleep(300)",
)

RUNNER = """
import json, sys
from vla_bringup.up import Command, run
sys.exit(run([Command(name, arguments) for name, arguments in json.loads(sys.argv[1])]))
"""


class Group:
    """`vla_bringup.up.run` of Python programs, or any other command line; collects the pids that it prints."""

    def __init__(self, arguments: list[str], environment: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | (environment or {}),
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.output: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def of(cls, **programs: str) -> "Group":
        commands = [(name, [sys.executable, "-c", text]) for name, text in programs.items()]
        return cls([sys.executable, "-c", RUNNER, json.dumps(commands)])

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Until so many lines match."""
        deadline_s = time.monotonic() + DEADLINE_S
        while sum(bool(re.search(pattern, line)) for line in self.output) < count:
            line = self._lines.get(timeout=max(0.01, deadline_s - time.monotonic()))
            assert line is not None, "ended early:\n" + "\n".join(self.output)
            self.output.append(line)

    def wait(self) -> int:
        code = self.process.wait(timeout=DEADLINE_S)
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            self.output.append(line)
        return code

    def pids(self, name: str = r"\w+") -> list[int]:
        found = (re.match(rf"{name} +\| pid (\d+)", line) for line in self.output)
        return [int(match[1]) for match in found if match]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def wait_until_gone(pids: list[int]) -> list[int]:
    """The pids that are still alive after the deadline; a zombie is gone."""
    deadline_s = time.monotonic() + DEADLINE_S
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return left


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
