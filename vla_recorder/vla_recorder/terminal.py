"""A live area at the bottom of a terminal, and above it everything else that the process prints, from whatever code."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.text import Text

PERIOD_S = 0.2
_LINES = 2000  # waiting to be shown; a terminal that hangs must not hang the process
_PATIENCE_S = 2.0
_PIPE_BYTES = 1 << 20  # what any user may have


class LiveTerminal:
    """Shows `render(width, height)` a few times a second until `close`, which puts everything back.

    File descriptors 1 and 2 go through a pipe meanwhile: rclpy, the middleware and interpreter write there past
    Python. A thread always empties it, so that nothing ever waits for the terminal; another one shows the lines and
    the live area. Should `render` fail, the view closes with the traceback, and the process goes on.
    """

    def __init__(self, render: Callable[[int, int], RenderableType]) -> None:
        self._render = render
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._dropped = 0
        self._closing = threading.Event()
        self._bell = False
        self._close_lock = threading.Lock()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._saved = {number: os.dup(number) for number in (1, 2)}
        self._terminal = _Terminal(self._saved[1])
        # COLUMNS and LINES tell what was once; the terminal itself knows
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._console = Console(file=self._terminal, force_terminal=True, _environ=environment)
        # all redirecting is ours: rich sees Python's own writes only
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._pipe, write_end = os.pipe()
        with contextlib.suppress(OSError):  # more than a user may have
            # rclpy logs with Python's lock held: were the pipe full then, its reader could never empty it
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for number in self._saved:
            os.dup2(write_end, number)
        os.close(write_end)
        self._reader = threading.Thread(target=self._read, name="log lines", daemon=True)
        self._screen = threading.Thread(target=self._show, name="live view", daemon=True)
        self._reader.start()
        self._screen.start()

    @staticmethod
    def available() -> bool:
        """True when both stdin and stdout are terminals that can do more than print."""
        try:
            return sys.stdin.isatty() and sys.stdout.isatty() and not Console().is_dumb_terminal
        except ValueError:  # closed
            return False

    def ring(self) -> None:
        """Sound the terminal's bell with the next picture."""
        self._bell = True

    def close(self) -> None:
        """Remove the live area, show what is left to show, and give the terminal back. For any thread, once."""
        self._closing.set()
        if threading.current_thread() is not self._screen:
            self._screen.join(_PATIENCE_S)
        with self._close_lock:
            if not self._saved:
                return
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, saved in self._saved.items():
                os.dup2(saved, number)
            self._saved = {}
        self._reader.join(_PATIENCE_S)  # the pipe has no writer any more, unless a child process has it
        if threading.current_thread() is self._screen or not self._screen.is_alive():
            self._print_lines(lambda text: self._console.print(text, soft_wrap=True))

    def _read(self) -> None:
        rest = b""
        while piece := os.read(self._pipe, 1 << 16):
            *lines, rest = (rest + piece).split(b"\n")
            self._dropped += max(0, len(self._lines) + len(lines) - _LINES)
            self._lines.extend(line.decode(errors="replace") for line in lines)
        if rest:
            self._lines.append(rest.decode(errors="replace"))

    def _show(self) -> None:
        try:
            with self._live:
                size = self._console.size
                while not self._closing.wait(PERIOD_S):
                    if (
                        self._console.size != size
                    ):  # the terminal has wrapped what it showed: begin on a clean page
                        size = self._console.size
                        self._console.control(Control.clear(), Control.home())
                    self._print_lines(lambda text: self._live.console.print(text, soft_wrap=True))
                    self._live.update(self._render(size.width, size.height), refresh=True)
                    if self._bell:
                        self._bell = False
                        self._console.bell()
        except Exception:
            self._lines.extend(
                ["the live view failed; recording goes on", *traceback.format_exc().splitlines()]
            )
            self.close()

    def _print_lines(self, show: Callable[[Text], None]) -> None:
        if not self._lines:
            return
        dropped, self._dropped = self._dropped, 0
        lines = [Text(f"({dropped} lines could not be shown)")] if dropped else []
        while self._lines:
            lines.append(Text.from_ansi(self._lines.popleft()))
        show(Text("\n").join(lines))


class _Terminal:
    """A terminal as rich writes to it: unbuffered, so that nothing is left to flush when the interpreter ends.

    When it was closed (its window, the connection to it), what is written is lost, and that is all.
    """

    encoding = "utf-8"

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, text: str) -> int:
        data = text.encode(errors="replace")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._number, data) :]
        return len(text)

    def flush(self) -> None:
        """Everything is written at once."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number
