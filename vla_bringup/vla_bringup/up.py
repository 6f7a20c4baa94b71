"""Runs a list of processes together: prefixed logs, one ends -> all end, and none is left behind.

asyncio's subprocesses, and setpriv (util-linux) so that the kernel stops the nodes even when this process is killed.
honcho would print as well, but after Ctrl-C it never escalates while all processes hang, and its children
survive its own death.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from vla_bringup.processes import Process

# Nodes close on SIGINT (hold the arms, finish the episode file); then it gets rougher.
STOPPING = ((signal.SIGINT, 10.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
COLOURS = (36, 33, 32, 35, 34, 31)
LINE_LIMIT_BYTES = 1 << 20
POLL_S = 0.05
LAST_WORDS_S = 2.0  # of a process that ended; its children may hold the pipe for ever


class StartError(RuntimeError):
    """A process that cannot be started; the message says what to do."""


@dataclass(frozen=True)
class Command:
    """A program to run under a name. `environment` is on top of what is inherited."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(
            [f"{k}={shlex.quote(v)}" for k, v in self.environment.items()] + [shlex.join(self.arguments)]
        )


def command_of(process: Process) -> Command:
    """The program of a process with its arguments. Raises StartError when it is not built."""
    program = find_program(process.package, process.executable)
    return Command(process.name, [program, *process.ros_arguments()], process.environment)


def find_program(package: str, executable: str) -> str:
    """The path of a package's executable, through the ament index. Raises StartError when it is not built."""
    try:
        folder = Path(get_package_prefix(package)) / "lib" / package
    except PackageNotFoundError:
        raise StartError(
            f"package '{package}' is not there: build the workspace (make setup, or colcon build) and "
            "source it (source env.bash, or install/setup.bash)"
        ) from None
    program = folder / executable
    if not os.access(program, os.X_OK):
        there = ", ".join(sorted(p.name for p in folder.glob("*"))) or "none"
        raise StartError(
            f"package '{package}' has no executable '{executable}' (there are: {there}); is it built?"
        )
    return str(program)


def run(commands: Sequence[Command]) -> int:
    """Run until one ends or SIGINT, SIGTERM or SIGHUP comes, then stop the others.

    Returns 0 after a signal, otherwise the exit code of the one that ended first (128 + n when signal n killed it);
    1 when one had to be killed at the end.
    """
    return asyncio.run(_Group(commands).run())


class _Group:
    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._width = max(len(command.name) for command in commands)
        self._colours = dict(zip((c.name for c in commands), itertools.cycle(COLOURS)))
        self._terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._running: dict[asyncio.Task[int], tuple[str, asyncio.subprocess.Process]] = {}

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        code = 1
        try:
            for command in self._commands:
                await self._start(command)
            code = await self._first_end()
        finally:
            killed = await self._stop()
        return 1 if killed else code

    async def _start(self, command: Command) -> None:
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        process = await asyncio.create_subprocess_exec(
            *guard,
            *command.arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=self._environment(command),
            start_new_session=True,  # Ctrl-C comes here alone; we pass it on, and can signal the whole group
            limit=LINE_LIMIT_BYTES,
        )
        self._say(command.name, f"started: {command}")
        self._running[asyncio.create_task(self._follow(command.name, process))] = (command.name, process)

    def _environment(self, command: Command) -> dict[str, str]:
        colour = {"RCUTILS_COLORIZED_OUTPUT": "1"} if self._terminal else {}
        return {"PYTHONUNBUFFERED": "1", **colour, **os.environ, **command.environment}

    async def _follow(self, name: str, process: asyncio.subprocess.Process) -> int:
        """Show a process's output until it ends; its exit code. What its children still say then is not waited for."""
        reader = asyncio.create_task(self._show(name, process.stdout))
        while (
            process.returncode is None
        ):  # process.wait() would wait for the pipe too, which children may hold
            await asyncio.sleep(POLL_S)
        await asyncio.wait([reader], timeout=LAST_WORDS_S)
        reader.cancel()
        return process.returncode

    async def _show(self, name: str, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # no line end within LINE_LIMIT_BYTES; asyncio has dropped it
                line = b"(a line too long to show)\n"
            if not line:
                return
            self._say(name, line.decode(errors="replace").rstrip())

    async def _first_end(self) -> int:
        stop = asyncio.create_task(self._signals.get())
        done, _ = await asyncio.wait([stop, *self._running], return_when=asyncio.FIRST_COMPLETED)
        if stop in done:
            self._say("vla", f"{stop.result().name}: stopping")
            return 0
        stop.cancel()
        ended = next(task for task in self._running if task in done)
        name, code = self._running[ended][0], ended.result()
        self._say("vla", f"{name} {_describe(code)}: stopping the others")
        return code if code >= 0 else 128 - code

    async def _stop(self) -> bool:
        """Stop what still runs, ever more firmly; True if something had to be killed."""
        killed = False
        for number, grace_s in STOPPING:
            alive = [name for task, (name, _) in self._running.items() if not task.done()]
            if not alive:
                break
            killed = number == signal.SIGKILL
            self._say("vla", f"{number.name} to {', '.join(alive)}")
            self._signal_groups(number)
            await self._all_ended(grace_s)
        self._signal_groups(signal.SIGKILL)  # children that outlived their node
        return killed

    def _signal_groups(self, number: signal.Signals) -> None:
        for _, process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    async def _all_ended(self, grace_s: float) -> None:
        """Wait for the end of all, or for one more signal: an impatient Ctrl-C goes on to the next, firmer one."""
        ended = asyncio.create_task(asyncio.wait(self._running))
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait([ended, again], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        again.cancel()

    def _say(self, name: str, text: str) -> None:
        head = f"{name:<{self._width}} |"
        if self._terminal:
            head = f"\033[{self._colours.get(name, 37)}m{head}\033[0m"
        with contextlib.suppress(BrokenPipeError):
            print(f"{head} {text}", flush=True)


def _describe(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
