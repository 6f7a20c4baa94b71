"""Commands on their way from the executor to the physics thread, and waiting for one tick's worth of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CommandInbox:
    """Keeps the newest command message of each sink. Callbacks `put`, the physics thread waits and takes."""

    def __init__(self, sinks: list[str]):
        self._changed = threading.Condition()
        self._fresh: dict[str, object] = {}
        self._answered_ns = dict.fromkeys(sinks, -1)
        self._tick_ns = 0
        self._interrupted = False

    def begin(self, tick_ns: int) -> None:
        """From now on commands answer the tick stamped tick_ns."""
        with self._changed:
            self._tick_ns = tick_ns

    def put(self, sink: str, message, stamp_ns: int | None) -> None:
        """Store a command. It answers the current tick unless its stamp (None or 0: it has none) is older."""
        with self._changed:
            self._fresh[sink] = message
            self._answered_ns[sink] = min(stamp_ns, self._tick_ns) if stamp_ns else self._tick_ns
            self._changed.notify_all()

    def interrupt(self) -> None:
        """End the wait in progress, or the next one, early."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def wait(self, expected: Callable[[], list[str]], timeout_s: float) -> list[str]:
        """Wait (wall time) until the current tick is answered on every expected sink.

        Returns the sinks that did not answer; empty as well when interrupted. `expected` is asked
        again now and then, since a commander may leave while it is waited for.
        """
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                missing = [] if self._interrupted else self._unanswered(expected())
                left_s = end_s - time.monotonic()
                if not missing or left_s <= 0.0:
                    self._interrupted = False
                    return missing
                self._changed.wait(min(left_s, 0.1))

    def take(self) -> dict[str, object]:
        """The newest message of each sink since the last take."""
        with self._changed:
            fresh, self._fresh = self._fresh, {}
        return fresh

    def _unanswered(self, sinks: list[str]) -> list[str]:
        return [sink for sink in sinks if self._answered_ns[sink] < self._tick_ns]
