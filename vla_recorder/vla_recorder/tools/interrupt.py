"""Ctrl-C while files are made: it takes effect between two rows, never within a write or while something is put right.

Python raises KeyboardInterrupt at any instruction: between the creation of a file and the `try` that would remove it,
in the `finally` that removes it, inside what HDF5 calls back. No order of statements is safe from that; so the signal
is only noted, and the loops ask for it.
"""

from __future__ import annotations

import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # the one that raises by itself is restored last

_current: deferred | None = None


class deferred:  # noqa: N801 (a context manager, used like a function)
    """Inside, signals to end are noted; `grant`, or else the end of the block, raises KeyboardInterrupt for them.

    Does nothing inside another one, and in threads other than the main one: no signal interrupts those. A signal that
    the process ignores (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> deferred:
        global _current
        if _current is None and threading.current_thread() is threading.main_thread():
            for number in reversed(_SIGNALS):
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
            _current = self
        return self

    def __exit__(self, _kind, error: BaseException | None, _traceback) -> None:
        global _current
        if _current is not self:
            return
        _current = None
        for number in _SIGNALS:
            if number in self._before:
                signal.signal(number, self._before[number])
        if self.asked and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt

    def _note(self, _number, _frame) -> None:
        self.asked = True


def grant() -> None:
    """Raise KeyboardInterrupt when it was asked for; for every thread of a `deferred` block, where it suits."""
    if _current is not None and _current.asked:
        raise KeyboardInterrupt
