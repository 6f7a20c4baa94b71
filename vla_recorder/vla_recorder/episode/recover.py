"""Makes episodes out of what a crash, a full disk or a power cut left behind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import h5py

from vla_recorder.episode import datasets, disk, layout
from vla_recorder.episode.journal import journal_of
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.transactions import TransactionalFile


@dataclass(frozen=True)
class Recovered:
    """What became of a file: where it is now, how many rows it has, and what there is to say about it."""

    path: Path
    rows: int
    note: str


def find_damaged(folder: str | Path) -> list[Path]:
    """What `recover` can be asked for in a folder: episode files that were not finished, in order of index."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder")
    partial = [path for path in folder.glob(f"*{layout.PARTIAL_SUFFIX}") if layout.index_of(path) is not None]
    journals = [path.with_suffix("") for path in folder.glob(f"*.hdf5{layout.JOURNAL_SUFFIX}")]
    unsynced = [path for path in journals if path.exists() and journal_of(path) is not None]
    return sorted({*partial, *unsynced}, key=lambda path: (layout.index_of(path), path))


def recover(path: str | Path) -> Recovered:
    """Make `episode_{i}.hdf5` out of an `episode_{i}.hdf5.partial` whose writer is dead.

    Every row of the last commit is kept. An episode that was being closed keeps its label and end reason; others
    get the end reason "recovered: ...". A file without any row goes to `trash/`. A finished file whose journal is
    still there (the machine stopped before all of it was known to be on the disk) is checked the same way.

    Nothing is overwritten, and the file stays as it is until all of it is known to be right. Raises EpisodeError
    when a live recorder writes the file, when the final name is taken, or when the file cannot be read.
    """
    path = Path(path).expanduser()
    index = layout.index_of(path)
    if index is None:
        raise EpisodeError(f"{path}: not an episode's name, expected episode_N.hdf5{layout.PARTIAL_SUFFIX}")
    journal = journal_of(path)
    if path.name.endswith(layout.PARTIAL_SUFFIX):
        target = layout.episode_path(path.parent, index)
    elif journal is not None and journal.exists():
        target = path
    else:
        raise EpisodeError(f"{path}: is a finished episode, there is nothing to recover")
    return conclude(path, target, {"end_reason": "recovered: the recording was cut short"})


def conclude(path: Path, target: Path, attributes: Mapping[str, str]) -> Recovered:
    """Finish a file as of its last commit and move it to `target`, or to the trash when it has no rows.

    `attributes` of /vla are only set when the file was not closed. Raises EpisodeError; then it stays as it is.
    """
    index = layout.index_of(path)
    journal_path = layout.journal_path(path.parent, index)
    if path != target and target.exists():
        raise EpisodeError(f"{path}: {target} is there already; move one of them away")
    begun = journal_path.exists()
    try:
        store = TransactionalFile.open(path, journal_path, write=True)
        try:
            if (begun or not path.stat().st_size) and not store.journal.sequence and not _readable(store):
                rows, note = 0, ""  # cut off before it was a file at all
            else:
                note = _note(store, begun)
                rows = _complete(store, attributes)
                store.commit()
                store.sync()
                store.finish()
            target = target if rows else trash_path(path.parent, index)
            target.parent.mkdir(exist_ok=True)
            if path != target:
                os.rename(path, target)
            for folder in {path.parent, target.parent}:
                disk.sync_folder(folder)
            store.settle()
        finally:
            if not begun and not store.journal.sequence:
                journal_path.unlink(missing_ok=True)
            store.close()
    except (OSError, RuntimeError, KeyError) as error:
        raise EpisodeError(f"{path}: cannot be recovered: {error}. It stays as it is") from error
    return Recovered(target, rows, note if rows else "has no rows: moved to the trash")


def _note(store: TransactionalFile, had_journal: bool) -> str:
    if not had_journal:
        return "no journal: what HDF5 could read"
    if store.journal.taken_back:
        return "the machine was started anew since: every row that was synced"
    return "every row that was flushed"


def trash_path(folder: Path, index: int) -> Path:
    """A name in the folder's trash that never clashes."""
    time_text = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    name = f"episode_{index}_{time_text}_{os.getpid()}.hdf5{layout.TRASHED_SUFFIX}"
    return folder / layout.TRASH / name


def _readable(store: TransactionalFile) -> bool:
    try:
        with store.hdf5("r+") as file:
            return layout.VLA in file
    except (OSError, RuntimeError):
        return False


def _complete(store: TransactionalFile, attributes: Mapping[str, str]) -> int:
    with store.hdf5("r+") as file:
        if layout.VLA not in file:
            raise OSError("it is no episode of this recorder")
        rows = min(dataset.shape[axis] for dataset, axis in _by_row(file))
        for dataset, axis in _by_row(file):
            if dataset.shape[axis] > rows:
                dataset.resize(rows, axis=axis)
        if not file[layout.VLA].attrs["end_reason"]:
            datasets.describe(file, {"ended": datasets.now_text(), **attributes})
    return rows


def _by_row(file: h5py.File) -> list[tuple[h5py.Dataset, int]]:
    """Every dataset that grows with the rows, and its axis of rows."""
    found: list[tuple[h5py.Dataset, int]] = []
    once = (layout.LANGUAGE, layout.RIG)

    def add(_, item) -> None:
        if isinstance(item, h5py.Dataset) and item.name not in once:
            found.append((item, 1 if item.name == layout.COMPRESS_LEN else 0))

    file.visititems(add)
    return found
