"""A terminal of the test's own: a pty, and what it shows (pyte). A process started on it is its foreground job."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time

import pyte
from support.processes import DEADLINE_S

ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # as a shell does
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """Use as a context manager. `text` is all that is shown and was scrolled out, `screen` what is shown."""

    def __init__(self, columns: int = 100, lines: int = 30) -> None:
        self.keys, self.inside = pty.openpty()
        self._screen = pyte.HistoryScreen(columns, lines, history=5000)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._drawn, self._closing = bytearray(), threading.Event()
        self.reading = threading.Event()
        self.reading.set()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.inside)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        """As when its window is closed: what runs on it gets SIGHUP."""
        self._closing.set()
        self._reader.join()  # it must not read from a descriptor that is soon another file's
        os.close(self.inside)
        os.close(self.keys)

    def _read(self) -> None:
        while not self._closing.is_set():
            if not self.reading.wait(0.1) or not select.select([self.keys], [], [], 0.1)[0]:
                continue
            data = os.read(self.keys, 1 << 14)
            with self._lock:
                self._drawn += data
                self._stream.feed(data)

    def resize(self, columns: int, lines: int) -> None:
        with self._lock:
            self._screen.resize(lines, columns)
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def run(self, *arguments, **more) -> subprocess.Popen:
        """A Python process with this terminal as stdin, stdout and stderr."""
        command = [sys.executable, "-c", ON_TERMINAL, *map(str, arguments)]
        mine = {"stdin": self.inside, "stdout": self.inside, "stderr": self.inside, "start_new_session": True}
        return subprocess.Popen(command, **(mine | more))

    def press(self, keys: str) -> None:
        os.write(self.keys, keys.encode())

    @property
    def screen(self) -> str:
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def text(self) -> str:
        with self._lock:
            scrolled = [
                "".join(row[i].data for i in range(self._screen.columns)) for row in self._screen.history.top
            ]
            return "\n".join(line.rstrip() for line in [*scrolled, *self._screen.display])

    @property
    def cursor_shown(self) -> bool:
        return not self._screen.cursor.hidden

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.inside) == self.before and self.cursor_shown

    def until(self, condition, what: str = "") -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"not in time: {what}\n{self.text}"
            time.sleep(0.01)

    def until_shown(self, text: str) -> None:
        self.until(lambda: text in self.screen, repr(text))

    def until_drawn(self, text: str) -> None:
        """Like until_shown, but it may be gone from the screen again."""
        self.until(lambda: text.encode() in bytes(self._drawn), repr(text))
