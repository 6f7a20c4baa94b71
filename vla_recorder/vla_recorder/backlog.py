"""Rows on their way from the row thread to the writer thread: bounded, in order, encoded meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vla_recorder.episode.layout import EpisodeError, Row

ENCODERS = 2
"""Threads that encode JPEG: four cameras of 480x640 at 50 Hz take about an eighth of one core."""


@dataclass
class _Waiting:
    row: Row
    jobs: dict[str, Future]  # camera -> its JPEG
    size: int = 0  # bytes held by its frames now


class Backlog:
    """A queue that holds at most `max_rows` rows and `max_bytes` of frames, whichever is reached first.

    With `encode` (frame -> JPEG) frames are encoded by threads of its own while the row waits; then they count as
    what they are at the moment. A frame that several rows share is encoded and counted once. One thread puts, one
    gets.
    """

    def __init__(
        self, max_rows: int, max_bytes: int, encode: Callable[[np.ndarray], bytes] | None = None
    ) -> None:
        self.max_rows, self.max_bytes = max_rows, max_bytes
        self._encode = encode
        self._encoders = ThreadPoolExecutor(ENCODERS, "JPEG") if encode else None
        self._waiting: deque[_Waiting] = deque()
        self._newest: dict[
            str, tuple[np.ndarray, Future | None]
        ] = {}  # camera -> frame and job of the last row
        self._size = 0
        self.ended = False  # no row will follow
        self._changed = threading.Condition()

    @property
    def fill(self) -> float:
        """0 empty, 1 full."""
        return max(len(self._waiting) / self.max_rows, min(1.0, self._size / self.max_bytes))

    def put(self, row: Row) -> bool:
        """Add a row; False when there is no room. A single row always fits."""
        new = {name: image for name, image in row.images.items() if not self._is_newest(name, image)}
        size = sum(image.nbytes for image in new.values())
        with self._changed:
            full = len(self._waiting) >= self.max_rows or self._size + size > self.max_bytes
            if full and self._waiting:
                return False
            item = _Waiting(row, {}, size)
            for name, image in new.items():
                job = self._encoders.submit(self._work, item, image) if self._encode else None
                self._newest[name] = image, job
            if self._encode:
                item.jobs = {name: self._newest[name][1] for name in row.images}
            self._size += size
            self._waiting.append(item)
            self._changed.notify()
        return True

    def why_full(self) -> str:
        """What holds the rows up, in words."""
        with self._changed:
            encoding = bool(self._waiting) and not all(job.done() for job in self._waiting[0].jobs.values())
            rows, mega = len(self._waiting), self._size / 1e6
        slow = "JPEG encoding" if encoding else "the disk"
        return f"{slow} cannot keep up: {rows} rows ({mega:.0f} MB) were waiting to be written"

    def end(self) -> None:
        """No row will follow."""
        with self._changed:
            self.ended = True
            self._changed.notify()

    @property
    def drained(self) -> bool:
        """No row is left, and none will follow."""
        return self.ended and not self._waiting

    def get(self, timeout_s: float) -> Row | None:
        """The oldest row, encoded; None when none came in time or all are drained. Raises EpisodeError."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended, timeout_s)
            if not self._waiting:
                return None
            item = self._waiting[0]
        try:
            if item.jobs:
                item.row.images = {name: job.result() for name, job in item.jobs.items()}
        except Exception as error:
            raise EpisodeError(f"a frame cannot be encoded: {error!r}") from error
        finally:
            with self._changed:
                self._waiting.popleft()
                self._size -= item.size
        return item.row

    def close(self) -> None:
        """Let the encoders go."""
        if self._encoders is not None:
            self._encoders.shutdown()

    def _is_newest(self, camera: str, image: np.ndarray) -> bool:
        return camera in self._newest and self._newest[camera][0] is image

    def _work(self, item: _Waiting, image: np.ndarray) -> bytes:
        encoded = self._encode(image)
        with self._changed:
            item.size += len(encoded) - image.nbytes
            self._size += len(encoded) - image.nbytes
        return encoded
