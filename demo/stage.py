"""A set of ROS processes started with `vla up`, as a person would, and stopped without leaving any behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

interrupted = threading.Event()
"""Set by Ctrl-C. Raised inside rclpy's C++ code, a KeyboardInterrupt would surface as some other error, or hang."""


class StageError(RuntimeError):
    """A stage that died or did not stop; the message names its log."""


class Stage:
    """`vla up RIG name:=value ...` in the background, output in a log file. Use as a context manager."""

    def __init__(self, name: str, log: Path, domain: int, *arguments: str) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._out = log.open("w")
        self.process = subprocess.Popen(
            ["vla", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"ROS_DOMAIN_ID": str(domain)},
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops this in order
        )

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def check(self) -> None:
        """Raise StageError when the stage has ended by itself, KeyboardInterrupt after Ctrl-C."""
        if interrupted.is_set():
            raise KeyboardInterrupt
        if self.process.poll() is not None:
            raise StageError(
                f"{self.name}: a process ended (exit code {self.process.returncode}).\n{self.tail()}"
            )

    def tail(self, lines: int = 15) -> str:
        """The end of the log, and where the rest is."""
        self._out.flush()
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(["  | " + line for line in text] + [f"  whole log: {self.log}"])

    def stop(self) -> None:
        """SIGINT, as Ctrl-C would; `vla up` stops its nodes and waits for them."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise StageError(
                    f"{self.name}: did not stop within 30 s and was killed\n{self.tail()}"
                ) from None
        self._out.close()

    def transports(self) -> dict[str, str]:
        """The Fast DDS transports of every node of the stage, by name: read from /proc, not from what was asked."""
        found = {}
        for pid in _descendants(self.process.pid):
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                command = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue  # it has just ended
            name = next((w.split("/")[-1] for w in command.split() if "/lib/vla_" in w), "")
            if name:
                pairs = dict(e.decode(errors="replace").split("=", 1) for e in environment if b"=" in e)
                profile = Path(pairs.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")).name
                value = profile or pairs.get("FASTDDS_BUILTIN_TRANSPORTS")
                found[name] = value or "default"
        return found


def _descendants(pid: int) -> list[int]:
    children = [
        int(c) for t in Path(f"/proc/{pid}/task").glob("*") for c in (t / "children").read_text().split()
    ]
    return children + [d for child in children for d in _descendants(child)]
