"""The folder that a recorder has for itself."""

from __future__ import annotations

from pathlib import Path

from vla_recorder.episode.lock import FolderLock


class OwnFolder:
    """Holds the lock of one folder at a time."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._lock: FolderLock | None = None
        self._inode = 0

    def take(self, folder: str) -> Path:
        """The folder's absolute path, once it is ours; another one is let go. Raises EpisodeError naming its holder."""
        path = Path(folder).expanduser().absolute()
        if self._lock is not None and path == self._lock.path.parent and self._in_place():
            return path
        held, self._lock = self._lock, FolderLock(path, self._owner)
        self._inode = self._lock.path.stat().st_ino
        if held is not None:
            held.release()
        return path

    def _in_place(self) -> bool:
        """False when folder or lock file were removed: others could lock a new one."""
        try:
            return self._lock.path.stat().st_ino == self._inode
        except OSError:
            return False

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
