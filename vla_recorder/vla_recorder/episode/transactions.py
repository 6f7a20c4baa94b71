"""A file for HDF5 whose changes reach the disk in whole commits: HDF5 itself has no such thing.

HDF5 overwrites its own metadata in place, many small writes for one flush, so that a kill or a full disk in the
middle of a flush can leave a file that cannot be opened. Here nothing that a commit refers to is ever overwritten:
new data goes straight to the file beyond the committed end, changes before it are kept in memory until `commit`
appends them to the journal; only when both are synced are they brought into the file (`sync`, `finish`). After a
crash the journal is read again. Redo logging, as databases do it (Mohan et al., ARIES, ACM TODS 17(1), 1992).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import h5py

from vla_recorder.episode import disk
from vla_recorder.episode.journal import PAGE, Journal

_AHEAD_BYTES = 64 << 20  # disk space claimed at a time
_MARGIN_BYTES = 4 << 20  # always left of it for HDF5's own structures


class TransactionalFile:
    """What h5py's "fileobj" driver reads and writes: seek, tell, readinto, write, truncate, flush.

    HDF5 is never told of an error: a write that the disk refuses is noted in `error`, and everything from there on
    stays in memory, so that HDF5 remains whole and can be closed. `commit` raises it.
    """

    def __init__(self, path: Path, fd: int, journal: Journal, end: int):
        self.path, self.journal = path, journal
        self.error: OSError | None = None
        self._fd = fd
        self._end = self._claimed = end
        self._protected = -(-end // PAGE)  # number of the first page that no commit refers to
        self._changed: dict[int, bytearray] = {}  # pages before that, changed since the last commit
        self._before: dict[int, bytes] = {}  # those the journal does not know, as they were
        self._position = 0
        self._let_go = 0  # what lies before this need not stay in the system's memory
        self._named = False  # both names are on the disk
        self._bringing_in = threading.Lock()

    @classmethod
    def create(cls, path: Path, journal_path: Path) -> TransactionalFile:
        """A new, empty file. Raises FileExistsError when either is there, OSError when it cannot be written."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            return cls(path, fd, Journal.create(journal_path), 0)
        except BaseException:
            os.close(fd)
            path.unlink()
            raise

    @classmethod
    def open(cls, path: Path, journal_path: Path, write: bool) -> TransactionalFile:
        """The file as of its last commit; without any commit, as it is. To `write`, a journal is begun if need be.

        Raises FileNotFoundError, OSError, or EpisodeError when a live recorder writes this file.
        """
        fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            if write and not journal_path.exists():
                journal = Journal.create(journal_path, os.fstat(fd).st_size)
            else:
                journal = Journal.open(journal_path, own=write, size=os.fstat(fd).st_size)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, journal, journal.end)

    def hdf5(self, mode: str) -> h5py.File:
        """The HDF5 file in it. Raises OSError when it is none."""
        return h5py.File(self.path, mode, driver="fileobj", fileobj=self)

    def reserve(self, size: int) -> None:
        """Claim disk space for `size` more bytes. Raises OSError when there is none; nothing has happened then."""
        needed = self._end + size + _MARGIN_BYTES
        if needed > self._claimed:
            try:
                claimed = disk.allocate(
                    self._fd, self._claimed, ahead := max(_AHEAD_BYTES, size + _MARGIN_BYTES)
                )
            except OSError:
                claimed = disk.allocate(self._fd, self._claimed, ahead := needed - self._claimed)
            self._claimed = self._claimed + ahead if claimed else sys.maxsize
        self.journal.make_room()

    def commit(self) -> None:
        """Everything HDF5 has written is in the file from now on, whatever happens. Raises OSError, then it is not."""
        if self.error is None:
            try:
                self.journal.commit(self._end, self._changed, self._before)
            except OSError as error:
                self.error = error
        if self.error is not None:
            raise self.error
        self._changed, self._before = {}, {}
        self._protected = -(-self._end // PAGE)

    def sync(self) -> None:
        """Make the commits so far survive a power cut. For any thread, while another one writes. Raises OSError."""
        if not self._named:
            with contextlib.suppress(FileNotFoundError):  # the folder was removed: the writer sees that
                disk.sync_folder(self.path.parent)
            self._named = True
        sequence, pages = self.journal.newest()
        end = self._end
        os.fdatasync(self._fd)
        # Nobody reads these frames soon. Without this they push everything else out of the system's memory, and
        # each new frame has to find itself some.
        os.posix_fadvise(self._fd, self._let_go, max(1, end - self._let_go), os.POSIX_FADV_DONTNEED)
        self._let_go = end
        self.journal.sync()
        self.journal.mark_durable(sequence)
        self.journal.sync()
        self._bring_in(pages)

    def finish(self) -> None:
        """Bring all commits into the file, which is complete then. Raises OSError; the journal still has them."""
        if self.error is not None:
            raise self.error
        self.journal.sync()  # a power cut meanwhile must find there what is overwritten here
        self._bring_in(self.journal.newest()[1])
        os.ftruncate(self._fd, self.journal.end)

    def settle(self) -> None:
        """After `finish`: the file itself is on the disk, its journal is removed. Raises OSError.

        The journal says so first: a power cut may bring it back, and then it must not take anything back.
        """
        self.sync()
        self.journal.remove()

    def _bring_in(self, pages: Mapping[int, int]) -> None:
        with self._bringing_in:
            for number, at in pages.items():
                if number in self.journal.pages:  # else the other thread brought in a newer version meanwhile
                    disk.write_all(self._fd, self.journal.page_at(at), number * PAGE)
                    self.journal.forget(number, at)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Close both files. What was not committed is gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.journal.close()

    # what h5py calls

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int) -> int:
        self._end = size
        return size

    def flush(self) -> None:
        """HDF5 wants its writes on the disk; only `commit` and `sync` do that."""

    def readinto(self, buffer) -> int:
        view, begin = memoryview(buffer).cast("B"), self._position
        # pages before file: what the other thread brings in meanwhile would be seen in neither
        pages = {
            number: self._page(number) for number in range(begin // PAGE, -(-(begin + len(view)) // PAGE))
        }
        view[:] = disk.read_all(self._fd, len(view), begin)
        for number, page in pages.items():
            if page is not None:
                first, last = max(begin, number * PAGE), min(begin + len(view), (number + 1) * PAGE)
                view[first - begin : last - begin] = page[first - number * PAGE : last - number * PAGE]
        self._position += len(view)
        return len(view)

    def write(self, data) -> int:
        view, begin = memoryview(data).cast("B"), self._position
        border = max(0, min(len(view), self._protected * PAGE - begin))
        if self.error is None and border < len(view):
            try:
                disk.write_all(self._fd, view[border:], begin + border)
            except OSError as error:
                self.error = error
        if self.error is not None:
            border = len(view)
        self._change(view[:border], begin)
        self._position += len(view)
        self._end = max(self._end, self._position)
        return len(view)

    def _change(self, view: memoryview, begin: int) -> None:
        while view:
            number, at = divmod(begin, PAGE)
            page = self._page(number)
            if page is None:
                page = disk.read_all(self._fd, PAGE, number * PAGE)
                if number not in self.journal.known:
                    self._before[number] = bytes(page)
            size = min(len(view), PAGE - at)
            page[at : at + size] = view[:size]
            self._changed[number] = page
            view, begin = view[size:], begin + size

    def _page(self, number: int) -> bytearray | None:
        """The newest version of a page that is not in the file itself."""
        changed = self._changed.get(number)
        return changed if changed is not None else self.journal.page(number)
