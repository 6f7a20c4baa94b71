"""Changes a finished episode so that all of it happens or nothing, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.transactions import TransactionalFile


@contextlib.contextmanager
def edited(path: str | Path) -> Iterator[h5py.File]:
    """The HDF5 file of an episode, to be changed inside the `with`; leaving it brings the changes in, and syncs.

    An exception inside leaves the file as it was. Raises EpisodeError when the file cannot be changed, also while
    the recorder still syncs it (`EpisodeWriter.wait_synced`).
    """
    path = Path(path)
    index = layout.index_of(path)
    if index is None:
        raise EpisodeError(f"{path}: not an episode's name, expected episode_N.hdf5")
    try:
        store = TransactionalFile.open(path, layout.journal_path(path.parent, index), write=True)
        try:
            with store.hdf5("r+") as file:
                yield file
            store.commit()
            store.sync()
            store.finish()
            store.settle()
        finally:
            if not store.journal.sequence:
                store.journal.path.unlink(missing_ok=True)
            store.close()
    except (OSError, RuntimeError) as error:
        raise EpisodeError(f"{path}: cannot be changed: {error}") from error
