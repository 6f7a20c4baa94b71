"""Killed processes leave their Fast DDS shared-memory segments behind, 16 MB and more each; this removes them."""

from __future__ import annotations

import fcntl
from pathlib import Path

FOLDER = Path("/dev/shm")


def remove_leftovers(folder: Path = FOLDER) -> int:
    """Remove the segments whose owner is gone, whoever it was; returns how many.

    A live owner holds an exclusive lock on the segment's `_el` file (Fast DDS: RobustExclusiveLock), also when
    it lives in another container, where its process could not be seen.
    """
    removed = 0
    for lock in folder.glob("fastrtps_*_el"):
        segment = lock.with_name(lock.name.removesuffix("_el"))
        try:
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                segment.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        except OSError:
            continue  # in use, or another user's
        removed += 1
    return removed
