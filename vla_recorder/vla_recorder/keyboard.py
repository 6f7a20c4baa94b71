"""Single keys from the terminal a process was started in, without Enter; and lines, where somebody asks for one."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import sys
import termios
import threading
import traceback
import tty
from collections.abc import Callable, Mapping

_INPUT, _CHARACTERS = 0, 6  # places in what tcgetattr returns
_ESCAPE, _BACK, _CLEAR = "\x1b", "\x7f\b", "\x15"
_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|O.|.)?")  # what arrows and the like send (ECMA-48, 5.4)


class Keyboard:
    """Calls `actions[key]()` from its own thread for every key pressed. Ctrl-C keeps its meaning.

    Ctrl-Z and Ctrl-S lose theirs: both would halt a recording. Only where stdin is a terminal (`available`). `close`
    puts the terminal back as it was.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self._line: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._terminal = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._terminal)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        tty.setcbreak(self._terminal, termios.TCSANOW)
        attributes = termios.tcgetattr(self._terminal)
        attributes[_INPUT] &= ~termios.IXON
        attributes[_CHARACTERS][termios.VSUSP] = b"\0"  # none
        termios.tcsetattr(self._terminal, termios.TCSANOW, attributes)
        self._thread.start()

    @staticmethod
    def available() -> bool:
        """True when stdin is a terminal and this process is in its foreground (cbreak would stop others)."""
        try:
            return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except (OSError, ValueError):  # no stdin at all, or closed
            return False

    @property
    def line(self) -> str | None:
        """What has been typed of a line; None when keys are keys."""
        return self._line

    def read_line(self, text: str, done: Callable[[str], None]) -> None:
        """Take keys as text, behind `text`, until Enter, which calls done(line). Escape and `leave_line` do not."""
        self._line, self._done = text, done

    def leave_line(self) -> None:
        self._line = None

    def _read(self) -> None:
        while not self._closed.is_set():
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    data = os.read(self._terminal, 64)
                except OSError:  # the terminal was closed
                    return
                if not data:
                    return
                keys = self._decoder.decode(data)
                for key in _SEQUENCE.sub(lambda found: found[0] if found[0] == _ESCAPE else "", keys):
                    self._act(key)

    def _act(self, key: str) -> None:
        try:
            if self._line is None:
                self._actions.get(key, lambda: None)()
            else:
                self._edit(self._line, key)
        except Exception:  # a fault of ours: who records now needs the keys more than ever
            traceback.print_exc()

    def _edit(self, line: str, key: str) -> None:
        if key in "\r\n":
            self._line = None
            self._done(line.strip())
        elif key == _ESCAPE:
            self._line = None
        elif key in _BACK:
            self._line = line[:-1]
        elif key == _CLEAR:
            self._line = ""
        elif key.isprintable():
            self._line = line + key

    def close(self) -> None:
        self._closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=1.0)
        with contextlib.suppress(termios.error):  # it was closed
            # not TCSADRAIN: a terminal that hangs must not hang us
            termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)
