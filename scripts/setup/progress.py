"""Runs a long command with its output in a log file and a sign of life on the screen."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.setup.plan import SetupError

QUIET_S = 10.0  # without a terminal, never say nothing for longer than this


class Progress:
    """One line per step: `[2/5] virtual environment ... 4.1 s`; on a terminal the line moves while the step works."""

    def __init__(self, number: int, total: int, title: str):
        self.head = f"[{number}/{total}] {title}"
        self.start_s = time.monotonic()
        self.terminal = sys.stdout.isatty()
        self._said_s = self.start_s

    def elapsed_s(self) -> float:
        return time.monotonic() - self.start_s

    def note(self, text: str) -> None:
        """Say what the step is at; rate-limited where lines cannot be overwritten."""
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{f'{self.head} {self.elapsed_s():4.0f} s  {text}'[:width]}", end="", flush=True)
        elif time.monotonic() - self._said_s >= QUIET_S:
            self._said_s = time.monotonic()
            print(f"{self.head} {self.elapsed_s():4.0f} s  {text[:100]}", flush=True)

    def done(self, text: str) -> None:
        clear = "\r\033[K" if self.terminal else ""
        print(f"{clear}{self.head}: {text} ({self.elapsed_s():.1f} s)", flush=True)

    def end_line(self) -> None:
        if self.terminal:
            print()


def run_logged(
    command: Sequence[str | Path],
    log: Path,
    progress: Progress,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    summarise: Callable[[str], str | None] = lambda line: line,
) -> None:
    """Run a command; SetupError with the end of its output when it fails.

    `summarise` picks what a line of output is worth on the screen: the text to show, or None to keep the last one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: queue.Queue[str | None] = queue.Queue()
    with log.open("w") as file:
        file.write("$ " + " ".join(map(str, command)) + "\n")
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**(env if env is not None else os.environ), "PYTHONUNBUFFERED": "1"},
            cwd=cwd,
        )
        threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
        try:
            _follow(lines, file, progress, summarise)
        except BaseException:
            process.terminate()
            raise
        finally:
            code = process.wait()
    if code:
        progress.end_line()
        tail = "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"{progress.head} failed (exit code {code}). The end of {log}:\n{tail}")


def _pump(stream, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _follow(lines, file, progress: Progress, summarise) -> None:
    shown = "..."
    while True:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            progress.note(shown)
            continue
        if line is None:
            return
        file.write(line)
        file.flush()
        shown = (summarise(line.strip()) if line.strip() else None) or shown
        progress.note(shown)
