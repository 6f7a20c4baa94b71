"""One recorder for a folder: a lock that lives as long as the process, and says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from datetime import datetime, timezone
from pathlib import Path

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError


class FolderLock:
    """Holds `folder/.recorder.lock` (flock) until `release`, or until the process ends in whatever way.

    The file tells people and the next recorder who holds it: JSON text with owner, pid, host and since. It stays
    behind when released; only the lock counts. The folder is made when missing.

    Raises EpisodeError that names the holder when another recorder, also one of this process, has the folder.
    """

    def __init__(self, folder: str | Path, owner: str) -> None:
        self.path = Path(folder).expanduser().absolute() / layout.LOCK_NAME
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise EpisodeError(
                f"{self.path.parent}: cannot write here: {error}. Choose another folder"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._fd)
            os.close(self._fd)
            raise EpisodeError(
                f"{self.path.parent}: {holder} is recording here; stop it or choose another folder"
            ) from None
        except OSError as error:
            os.close(self._fd)
            raise EpisodeError(f"{self.path}: this file system cannot lock files: {error}") from error
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = json.dumps({"owner": owner, "pid": os.getpid(), "host": socket.gethostname(), "since": since})
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text.encode() + b"\n", 0)
        except OSError as error:
            os.close(self._fd)
            raise EpisodeError(f"{self.path}: cannot be written: {error}") from error

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_exception) -> None:
        self.release()

    def release(self) -> None:
        """Let others have the folder. Nothing happens when it is released already."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # a disk that refuses: the name stays, the lock does not
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def _holder(fd: int) -> str:
    """Who wrote the lock file, in words; a holder that has not written yet is "another recorder"."""
    try:
        holder = json.loads(os.pread(fd, 4096, 0))
        return f"'{holder['owner']}' (pid {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError):
        return "another recorder"
