"""Real processes under test: start, watch their output, wait for conditions, leave none behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

DEADLINE_S = 90.0
"""For what takes a moment when all is well: a machine may be ten times slower, or stand still for seconds."""


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S):
    """The first true value of condition(); AssertionError naming `what` after the deadline."""
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {deadline_s:g} s: {what}")


class Process:
    """One started command; `text` grows with what it prints (stdout and stderr together)."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self.command = command
        self._lines: list[str] = []
        self._popen = subprocess.Popen(
            command,
            env=dict(env) | {"PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._popen.stdout:
            self._lines.append(line)

    @property
    def text(self) -> str:
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    def wait_for(self, text: str, deadline_s: float = DEADLINE_S) -> None:
        """Until it has printed `text`; AssertionError with all output when it ends or takes too long."""
        try:
            wait_until(lambda: text in self.text or self.returncode is not None, repr(text), deadline_s)
            self._reader.join(0.0 if self.returncode is None else 2.0)
            assert text in self.text, f"ended with {self.returncode} without printing {text!r}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{' '.join(self.command)} printed:\n{self.text}") from None

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Until it ends; its exit code, with `text` complete. A hung one shows where its threads are."""
        try:
            code = self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self._popen.send_signal(signal.SIGABRT)  # faulthandler prints every thread's stack
            self._reader.join(5.0)
            raise AssertionError(f"still running after {deadline_s:g} s:\n{self.text}") from None
        self._reader.join(5.0)
        return code

    def interrupt(self) -> int:
        """SIGINT, as Ctrl-C sends it; the exit code."""
        self._popen.send_signal(signal.SIGINT)
        return self.wait()

    def end(self, patience_s: float = 5.0) -> None:
        """SIGINT, so that it leaves the graph, then SIGKILL for what remains."""
        if self.returncode is None:
            self._popen.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):  # killed below
                self._popen.wait(patience_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the process and its children, if any is left."""
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._popen.wait()
        self._reader.join(5.0)


def python_module(module: str, *args: str) -> list[str]:
    """The command line of `python -m module args`, with this interpreter."""
    return [sys.executable, "-u", "-m", module, *args]


def node_command(module: str, **parameters: object) -> list[str]:
    """The command line of a node module with ROS parameters."""
    pairs = [f"{name}:={_parameter(value)}" for name, value in parameters.items()]
    flags = [part for pair in pairs for part in ("-p", pair)]
    return python_module(module, *(["--ros-args", *flags] if flags else []))


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
