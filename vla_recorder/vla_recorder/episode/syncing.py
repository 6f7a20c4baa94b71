"""Syncs an episode file to the disk behind the writer's back, so that nobody waits for the disk."""

from __future__ import annotations

import threading
from pathlib import Path

from vla_recorder.episode import disk
from vla_recorder.episode.transactions import TransactionalFile

SYNC_INTERVAL_S = 1.0


class Syncer:
    """Syncs a file every SYNC_INTERVAL_S in a thread of its own, and a last time when it is complete.

    `finish` or `abandon` end it, and close the file. Only the last sync keeps an interpreter from exiting.
    """

    def __init__(self, store: TransactionalFile, folder: Path):
        self.error: OSError | None = None
        self._store, self._folder = store, folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="episode sync", daemon=True)
        self._thread.start()

    def finish(self, final: Path) -> None:
        """The file is complete and has its final name: sync it, then remove its journal. Returns at once."""
        self._stop.set()
        self._thread = threading.Thread(
            target=self._last, args=(self._thread, final), name="last episode sync"
        )
        self._thread.start()

    def abandon(self) -> None:
        """Close the file without a last sync, and wait until that is done."""
        self._stop.set()
        self._thread.join()
        self._store.close()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the last sync; False when it takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._store.sync()
            while not self._stop.wait(SYNC_INTERVAL_S):
                self._store.sync()
        except OSError as error:
            self.error = error

    def _last(self, running: threading.Thread, final: Path) -> None:
        running.join()
        try:
            for folder in {final.parent, self._folder}:
                disk.sync_folder(folder)
            self._store.settle()
        except OSError as error:
            self.error = error
        finally:
            self._store.close()
