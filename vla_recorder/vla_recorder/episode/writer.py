"""Writes one episode while it happens: memory is bounded, a crash leaves what was flushed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from vla_recorder.episode import datasets, images, layout, recover
from vla_recorder.episode.journal import is_live
from vla_recorder.episode.layout import EpisodeError, EpisodeHeader, Row
from vla_recorder.episode.syncing import Syncer
from vla_recorder.episode.transactions import TransactionalFile

FLUSH_INTERVAL_S = 0.25  # a killed process loses this much, and what was still queued


class EpisodeWriter:
    """Creates `episode_{i}.hdf5.partial`, appends rows, and on `close` renames it to `episode_{i}.hdf5`.

    i is the first index that is free in `folder`, or `index`; two writers in one folder never get the same. Rows
    are committed at least every `FLUSH_INTERVAL_S` of appending (`flush_if_due` when idle): a killed process keeps
    them. A thread syncs them to the disk every few seconds: a power cut keeps those. layout.py says it exactly.
    Not thread-safe: one thread writes.

    Raises EpisodeError when the folder cannot be written.
    """

    def __init__(self, folder: str | Path, header: EpisodeHeader, index: int | None = None):
        self.folder = Path(folder).expanduser()
        self.header = header
        self.rows = 0
        self.flushed_rows = 0
        self.failed = False  # the disk refused; nothing more can be written
        self.index, self._store = _create(self.folder, index)
        self.path = layout.partial_path(self.folder, self.index)
        self._pending: list[Row] = []
        self._lengths: list[dict[str, int]] = []  # of the pending rows' JPEG frames
        self._file, self._frames = _begin(self._store, header)
        self._syncer = Syncer(self._store, self.folder)
        # nobody may close it: HDF5 must not find that out when the interpreter is half gone
        self._forgotten = weakref.finalize(self, _abandon, self._file, self._store, self._syncer)
        self._flushed_at_s = time.monotonic()

    @property
    def final_path(self) -> Path:
        return layout.episode_path(self.folder, self.index)

    @property
    def trouble(self) -> str:
        """Why the recording should end soon, though rows can still be written; empty when all is well."""
        if self._syncer.error is not None:
            return f"{self.path}: the disk may have lost data: {self._syncer.error}"
        if not self.failed and os.fstat(self._store.fileno()).st_nlink == 0:
            return f"{self.path}: was removed while it was written"
        return ""

    def append(self, row: Row) -> None:
        """Add one row. Raises EpisodeError on a wrong frame or when the disk refuses; rows before stay."""
        if self.failed:
            raise EpisodeError(f"{self.path}: was given up; its first {self.flushed_rows} rows are on disk")
        frames = {camera: self._frame(camera, row.images.get(camera)) for camera in self._frames}
        try:
            self._store.reserve(sum(memoryview(frame).nbytes for frame in frames.values()))
        except OSError as error:  # nothing has been touched: the rows before can still be flushed and closed
            raise EpisodeError(f"{self.path}: cannot write row {self.rows}: {error}") from error
        with self._giving_up():
            for camera, frame in frames.items():
                self._frames[camera].append(self.rows, frame)
        row.images = {}  # the frames are written: let the messages go
        self._pending.append(row)
        if self.header.image_form == "jpeg":
            self._lengths.append({camera: len(encoded) for camera, encoded in frames.items()})
        self.rows += 1
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Flush when the last flush is FLUSH_INTERVAL_S ago or a block is full."""
        due = time.monotonic() - self._flushed_at_s >= FLUSH_INTERVAL_S
        if due or len(self._pending) >= datasets.BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Commit everything appended so far: a kill keeps it. Raises EpisodeError when the disk refuses."""
        with self._giving_up():
            if self._pending:
                begin = self.rows - len(self._pending)
                datasets.append_small(self._file, self.header, begin, self._pending)
                if self._lengths:
                    datasets.append_lengths(self._file, begin, self._lengths)
                self._file.flush()
                self._store.commit()
        self._pending, self._lengths = [], []
        self.flushed_rows = self.rows
        self._flushed_at_s = time.monotonic()

    def sync(self) -> None:
        """Flush, and wait until it is on the disk: a power cut keeps it. Raises EpisodeError."""
        self.flush()
        with self._giving_up():
            self._store.sync()

    def close(
        self,
        end_reason: str,
        label: str = "none",
        checkpoint: str | None = None,
        quality: Mapping | None = None,
        instruction: str | None = None,
    ) -> Path:
        """Finish the file and give it its final name; returns it. Raises EpisodeError when the disk refuses.

        `checkpoint` and `instruction` replace the header's: a policy may begin to command later, and people change
        their minds. `quality` is stored as JSON.
        The file may still be on its way to the disk when this returns: see `wait_synced`.
        """
        if label not in layout.LABELS:
            raise ValueError(f"label must be one of {layout.LABELS}, got {label!r}")
        given = {
            "label": label,
            "checkpoint": checkpoint,
            "instruction": instruction,
            "quality": None if quality is None else json.dumps(quality),
        }
        known = {name: value for name, value in given.items() if value is not None}
        return self._finish(self.final_path, end_reason, known)

    def discard(self, end_reason: str = "discarded") -> Path:
        """Finish the file but move it to `trash/`, under a name that never clashes; returns it."""
        return self._finish(recover.trash_path(self.folder, self.index), end_reason, {})

    def wait_synced(self, timeout_s: float | None = None) -> bool:
        """Wait until a closed file is on the disk; False when it takes longer. EpisodeError: it cannot be."""
        done = self._syncer.wait(timeout_s)
        if self._syncer.error is not None:
            raise EpisodeError(f"{self.path}: the disk may have lost data: {self._syncer.error}")
        return done

    def _finish(self, target: Path, end_reason: str, attributes: dict[str, str]) -> Path:
        attributes |= {"end_reason": end_reason, "ended": datasets.now_text()}
        if not self.failed:
            with contextlib.suppress(EpisodeError):  # then it has failed, and is recovered
                self._complete(attributes)
        if self.failed:
            target = self._conclude(target, attributes)
        else:
            self._forgotten.detach()
            self._move(target)
        self.path = target
        return target

    def _conclude(self, target: Path, attributes: Mapping[str, str]) -> Path:
        try:
            return recover.conclude(self.path, target, attributes).path
        except EpisodeError as error:
            safe = f"its first {self.flushed_rows} rows are there: see `episode recover --help`"
            raise EpisodeError(f"{error}; {safe}") from error

    def _complete(self, attributes: Mapping[str, str]) -> None:
        self.flush()
        with self._giving_up():
            datasets.describe(self._file, attributes)
            self._file.close()
            self._store.commit()
            self._store.finish()

    def _move(self, target: Path) -> None:
        try:
            if target.exists():
                raise FileExistsError(errno.EEXIST, "somebody else wrote this file", str(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(self.path, target)
            except FileNotFoundError:
                self._copy(target)
            if target != self.final_path:
                self._store.journal.remove()  # the next episode gets this index
        except OSError as error:
            self._syncer.abandon()
            hint = "see `episode recover --help`"
            raise EpisodeError(f"{self.path}: is complete but cannot be renamed: {error}; {hint}") from error
        self._syncer.finish(target)

    def _copy(self, target: Path) -> None:
        """Save a file that was removed, alone or with its folder: it lives as long as it is open."""
        with open(os.dup(self._store.fileno()), "rb") as removed, open(target, "xb") as copy:
            removed.seek(0)
            shutil.copyfileobj(removed, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())

    def _frame(self, camera: str, image: np.ndarray | bytes | None) -> np.ndarray | bytes:
        """What goes into the file: the checked frame, or its JPEG. Raises EpisodeError."""
        header = self.header
        expected = (*header.cameras[camera], 3)
        if isinstance(image, bytes) and image and header.image_form == "jpeg":
            return image
        if not isinstance(image, np.ndarray) or image.shape != expected or image.dtype != np.uint8:
            found = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
            wanted = f"image of '{camera}' must be {expected} uint8"
            raise EpisodeError(f"{self.path}: row {self.rows}: {wanted}, got {found}")
        if header.image_form == "raw":
            return image
        return images.encode(image, header.jpeg_quality, header.jpeg_colour)

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Whatever HDF5 or the disk refuses inside is the end of writing. Raises EpisodeError then."""
        try:
            yield
            if self._store.error is not None:
                raise self._store.error
        except (OSError, RuntimeError) as error:  # h5py raises either
            self._give_up(error)
            done = f"Its first {self.flushed_rows} rows are on disk"
            raise EpisodeError(f"{self.path}: cannot write: {error}. {done}") from error

    def _give_up(self, error: Exception) -> None:
        if not self.failed:
            self.failed = True
            self._store.error = self._store.error or OSError(str(error))
            self._forgotten()


def _abandon(file: h5py.File, store: TransactionalFile, syncer: Syncer) -> None:
    """Leave a file as of its last commit, for `recover`; HDF5 finishes in memory."""
    store.error = store.error or OSError("the writer was given up")
    with contextlib.suppress(OSError, RuntimeError):
        file.close()
    syncer.abandon()


def _create(folder: Path, index: int | None) -> tuple[int, TransactionalFile]:
    """Claim the first free index, or this one, by creating its .partial exclusively."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for candidate in itertools.count() if index is None else [index]:
            store = _claim(folder, candidate)
            if store is not None:
                return candidate, store
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot write episodes here: {error}. Choose another folder") from error
    raise EpisodeError(f"{layout.episode_path(folder, index)}: is there already")


def _begin(store: TransactionalFile, header: EpisodeHeader) -> tuple[h5py.File, dict]:
    """The empty episode and its cameras' frames; nothing stays behind when it cannot be made."""
    file = None
    try:
        file = store.hdf5("w")
        frames = datasets.create(file, header)
        file.flush()
        store.commit()
        return file, frames
    except BaseException as error:
        store.error = store.error or OSError(str(error))  # HDF5 finishes in memory
        if file is not None:
            with contextlib.suppress(OSError, RuntimeError):
                file.close()  # one that is open when the interpreter has ended crashes the process
        store.close()
        store.path.unlink(missing_ok=True)
        store.journal.remove()
        if isinstance(error, OSError | RuntimeError):
            text = f"{store.path.parent}: cannot write episodes here: {error}. Choose another folder"
            raise EpisodeError(text) from error
        raise


def _claim(folder: Path, index: int) -> TransactionalFile | None:
    final, partial = layout.episode_path(folder, index), layout.partial_path(folder, index)
    journal = layout.journal_path(folder, index)
    if final.exists():
        return None
    with contextlib.suppress(FileNotFoundError):  # its owner removed it just now
        if journal.exists() and not partial.exists() and not is_live(journal):
            journal.unlink()  # of a file that somebody removed by hand
    try:
        store = TransactionalFile.create(partial, journal)
    except FileExistsError:
        return None
    if not final.exists():
        return store
    # another writer finished this very index between the check and the claim
    store.close()
    partial.unlink()
    store.journal.remove()
    return None
