"""The few system calls under an episode file that Python or its libraries do not wrap the way it needs them."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

try:
    _fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
except AttributeError:  # not Linux
    _fallocate = None


def write_all(fd: int, data, offset: int) -> None:
    """Write all of `data` (bytes-like) at `offset`. Raises OSError when the disk refuses."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_all(fd: int, size: int, offset: int) -> bytearray:
    """`size` bytes from `offset` on; what lies beyond the end of the file is zeros."""
    data = bytearray(size)
    view = memoryview(data)
    while view and (count := os.preadv(fd, [view], offset)):
        view, offset = view[count:], offset + count
    return data


def allocate(fd: int, offset: int, size: int) -> bool:
    """Claim disk space without changing the file's size; False where the file system knows no such thing.

    Raises OSError (ENOSPC, EDQUOT) when there is no room. os.posix_fallocate would write zeros instead where it
    is not supported, which costs as much as the data itself.
    """
    if _fallocate is None:
        return False
    if _fallocate(fd, _KEEP_SIZE, offset, size) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
