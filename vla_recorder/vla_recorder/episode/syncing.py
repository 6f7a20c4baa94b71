"""Syncs an episode file to the disk behind the writer's back, so that nobody waits for the disk."""

from __future__ import annotations

import threading
from pathlib import Path

from vla_recorder.episode import disk
from vla_recorder.episode.transactions import TransactionalFile

SYNC_INTERVAL_S = 2.0


class Syncer:
    """A thread that syncs a file every SYNC_INTERVAL_S, and a last time when it is complete.

    It ends with `finish` or `abandon`, and closes the file then. It is no daemon: an interpreter that exits waits
    until the last episode is synced.
    """

    def __init__(self, store: TransactionalFile, folder: Path):
        self.error: OSError | None = None
        self._store, self._folder = store, folder
        self._final: Path | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="episode sync")
        self._thread.start()

    def finish(self, final: Path) -> None:
        """The file is complete and has its final name: sync it, then remove its journal. Returns at once."""
        self._final = final
        self._stop.set()

    def abandon(self) -> None:
        """Close the file without a last sync, and wait until that is done."""
        self._stop.set()
        self._thread.join()

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the last sync; False when it takes longer."""
        self._thread.join(timeout_s)
        return not self.busy

    def _run(self) -> None:
        try:
            disk.sync_folder(self._folder)
            self._store.sync()
            while not self._stop.wait(SYNC_INTERVAL_S):
                self._store.sync()
            if self._final is not None:
                disk.sync_folder(self._final.parent)
                self._store.settle()
        except OSError as error:
            self.error = error
            self._stop.wait()
        finally:
            self._store.close()
