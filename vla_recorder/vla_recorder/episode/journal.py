"""The redo journal beside an episode file that is being written: commits that happen whole or not at all.

    episode_{i}.hdf5.journal
    head      magic (8), boot id of the machine (36)
    record    kind (4), crc32 of what follows (4), sequence number (8), end (8), page count (4),
              page numbers (8 each), pages (PAGE bytes each)

A COMT record, a commit, holds every page of the episode file that it changes, and the file's length after it.
A BASE record holds pages as they were when a commit first changed them: a power cut can take a commit back though
the episode file has its pages already.
A DURA record says that everything up to the commit of its number, data in the episode file included, is synced.
A VOID record takes back the commits before it that have a higher number, and what is said of pages beyond its end.
A killed process leaves at worst half a record at the end, which its checksum tells. Little-endian throughout.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from vla_recorder.episode import disk, layout
from vla_recorder.episode.layout import EpisodeError

PAGE = 4096
_ROOM_BYTES = 4 << 20  # claimed ahead, so that an episode can be finished on a full disk
_MAGIC = b"VLAJRNL1"
_COMMIT, _BASE, _DURABLE, _VOID = b"COMT", b"BASE", b"DURA", b"VOID"
_HEAD = struct.Struct("<8s36s")
_RECORD = struct.Struct("<4sI")
_BODY = struct.Struct("<QQI")


class Journal:
    """Commits, newest last. `pages`: page number -> where its newest version lies, if not in the episode file.

    An opened journal ends with its last good commit. After a power cut (the machine booted since it was begun)
    that is the last one known to be durable: later ones may speak of data that never reached the disk.

    Whoever writes it owns it, and others cannot (flock): that is how a live recorder is told from a dead one.
    """

    def __init__(self, path: Path, fd: int):
        self.path = path
        self.pages: dict[int, int] = {}
        self.sequence = 0  # of the newest commit
        self.end = 0  # length of the episode file after it
        self.known: set[int] = set()  # every page that some record has
        self.taken_back = 0  # commits that a power cut made worthless
        self._fd = fd
        self._lock = threading.Lock()  # commits come from the writer's thread, syncs from another one
        self._tail = _HEAD.size  # where the next record goes
        self._room_end = self._tail
        self._there = True

    @classmethod
    def create(cls, path: Path, size: int = 0) -> Journal:
        """A new journal without commits, for an episode file of `size` bytes.

        Raises FileExistsError, or OSError when it cannot be written.
        """
        journal = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            journal._own()
            journal.end = size
            disk.write_all(journal._fd, _HEAD.pack(_MAGIC, _boot_id()), 0)
            journal.make_room()
        except BaseException:
            path.unlink()
            journal.close()
            raise
        return journal

    @classmethod
    def open(cls, path: Path, own: bool, size: int) -> Journal:
        """An existing journal, for reading or (`own`) to go on with; `size` is that of the episode file.

        Raises FileNotFoundError, OSError, or EpisodeError when a live recorder owns it and `own` is asked for.
        """
        journal = cls(path, os.open(path, (os.O_RDWR if own else os.O_RDONLY) | os.O_CLOEXEC))
        try:
            if own:
                journal._own()
            journal._read(size)
            if own:
                journal._go_on()
        except BaseException:
            journal.close()
            raise
        return journal

    def _own(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EpisodeError(f"{self.path}: a recorder is still writing this episode") from None

    def _go_on(self) -> None:
        """Ready to append, behind the last good record."""
        os.ftruncate(self._fd, self._tail)
        self._room_end = self._tail
        if self.taken_back:
            self._append(_VOID, _BODY.pack(self.sequence, self.end, 0))

    def _read(self, size: int) -> None:
        """Everything as of the last commit that can be trusted."""
        self.end = size
        commits: list[tuple[int, int, dict[int, int]]] = []
        durable = 0
        for kind, sequence, end, pages in self._scan():
            self.known.update(pages)
            if kind == _COMMIT:
                commits.append((sequence, end, pages))
            elif kind == _BASE:
                self.pages.update(pages)
            elif kind == _DURABLE:
                durable = max(durable, sequence)  # two syncs may overlap, and the older end last
            else:
                commits = [commit for commit in commits if commit[0] <= sequence]
                self._forget_beyond(end)
        trusted = commits if self._same_boot() else [c for c in commits if c[0] <= durable]
        if trusted:
            self.sequence, self.end, _ = trusted[-1]
        self.taken_back = len(commits) - len(trusted)
        if self.taken_back:
            self._forget_beyond(self.end)
        for _, _, pages in trusted:
            self.pages.update(pages)

    def _forget_beyond(self, end: int) -> None:
        """Commits were taken back: what they put behind this end of the file will be written anew, directly."""
        border = -(-end // PAGE)
        self.pages = {number: at for number, at in self.pages.items() if number < border}
        self.known = {number for number in self.known if number < border}

    def commit(
        self, end: int, pages: Mapping[int, bytes | bytearray], before: Mapping[int, bytes | bytearray]
    ) -> None:
        """Append a commit. `before` has the pages that are not `known` yet as they are in the episode file.

        Raises OSError when the disk refuses; then the commit did not happen.
        """
        with self._lock:
            if before:
                self._append_pages(_BASE, self.sequence, self.end, before)
            offsets = self._append_pages(_COMMIT, self.sequence + 1, end, pages)
            self.pages.update(offsets)
            self.known.update(offsets)
            self.sequence, self.end = self.sequence + 1, end

    def newest(self) -> tuple[int, dict[int, int]]:
        """The sequence number of the newest commit, and `pages` as of it."""
        with self._lock:
            return self.sequence, dict(self.pages)

    def mark_durable(self, sequence: int) -> None:
        """Note that everything up to this commit is synced. Raises OSError."""
        with self._lock:
            self._append(_DURABLE, _BODY.pack(sequence, 0, 0))

    def forget(self, number: int, at: int) -> None:
        """Take this version out of `pages`, now that the episode file has it; a newer one stays."""
        with self._lock:
            if self.pages.get(number) == at:
                del self.pages[number]

    def page(self, number: int) -> bytearray | None:
        """The newest committed version of a page; None when the episode file has it."""
        at = self.pages.get(number)
        return None if at is None else self.page_at(at)

    def page_at(self, offset: int) -> bytearray:
        return disk.read_all(self._fd, PAGE, offset)

    def make_room(self) -> None:
        """Claim space for the next records. Raises OSError when the disk is full."""
        if self._tail + _ROOM_BYTES // 2 > self._room_end:
            disk.allocate(self._fd, self._tail, _ROOM_BYTES)
            self._room_end = self._tail + _ROOM_BYTES

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def remove(self) -> None:
        """Unlink it, once: another episode may have a journal of this name soon. Raises OSError."""
        if self._there:
            self.path.unlink(missing_ok=True)
            self._there = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append_pages(self, kind: bytes, sequence: int, end: int, pages: Mapping) -> dict[int, int]:
        """Returns where each page lies."""
        body = _BODY.pack(sequence, end, len(pages)) + struct.pack(f"<{len(pages)}Q", *pages)
        first = self._append(kind, b"".join([body, *pages.values()])) + _RECORD.size + len(body)
        return {number: first + i * PAGE for i, number in enumerate(pages)}

    def _append(self, kind: bytes, record: bytes) -> int:
        begin = self._tail
        disk.write_all(self._fd, _RECORD.pack(kind, zlib.crc32(record)) + record, begin)
        self._tail += _RECORD.size + len(record)
        return begin

    def _scan(self) -> Iterator[tuple[bytes, int, int, dict[int, int]]]:
        """(kind, sequence, end, page -> offset) of every good record; leaves the tail behind the last one."""
        size = os.fstat(self._fd).st_size
        while (body_at := self._tail + _RECORD.size) + _BODY.size <= size:
            kind, crc = _RECORD.unpack(disk.read_all(self._fd, _RECORD.size, self._tail))
            sequence, end, count = _BODY.unpack(disk.read_all(self._fd, _BODY.size, body_at))
            length = _BODY.size + count * (8 + PAGE)
            if kind not in (_COMMIT, _BASE, _DURABLE, _VOID) or body_at + length > size:
                return
            record = disk.read_all(self._fd, length, body_at)
            if zlib.crc32(record) != crc:
                return
            numbers = struct.unpack_from(f"<{count}Q", record, _BODY.size)
            first = body_at + _BODY.size + 8 * count
            self._tail = body_at + length
            yield kind, sequence, end, {number: first + i * PAGE for i, number in enumerate(numbers)}

    def _same_boot(self) -> bool:
        head = bytes(disk.read_all(self._fd, _HEAD.size, 0))
        return head == _HEAD.pack(_MAGIC, _boot_id())


def journal_of(path: Path) -> Path | None:
    """Where the journal of an episode file is if it has one; None for a name that is no episode's.

    A finished file beside an unfinished one of the same number (copied there, or merged) has none: it is the other's.
    """
    index = layout.index_of(path)
    partial = None if index is None else layout.partial_path(path.parent, index)
    if partial is None or (path.name != partial.name and partial.exists()):
        return None
    return layout.journal_path(path.parent, index)


def is_live(path: Path) -> bool:
    """Whether a process owns this journal now. Raises FileNotFoundError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink == 0:  # its owner finished and removed it between our open and our lock
            raise FileNotFoundError(path)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _boot_id() -> bytes:
    """Changes with every start of the machine; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return b""
