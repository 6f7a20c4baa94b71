"""Changes a finished episode so that all of it happens or nothing, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from vla_recorder.episode.journal import journal_of
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.transactions import TransactionalFile


@contextlib.contextmanager
def edited(path: str | Path) -> Iterator[h5py.File]:
    """The HDF5 file of an episode, to be changed inside the `with`; leaving it brings the changes in, and syncs.

    An exception inside leaves the file as it was. Raises EpisodeError when the file cannot be changed, also while
    the recorder still syncs it (`EpisodeWriter.wait_synced`).
    """
    path = Path(path)
    journal = journal_of(path)
    if journal is None:
        raise EpisodeError(
            f"{path}: cannot be changed: not named episode_N.hdf5, or an unfinished episode has its number"
        )
    try:
        store = TransactionalFile.open(path, journal, write=True)
        try:
            with store.hdf5("r+") as file:
                yield file
            store.commit()
            store.sync()
            store.finish()
            store.settle()
        finally:
            if not store.journal.sequence:
                store.journal.remove()
            store.close()
    except (OSError, RuntimeError) as error:
        raise EpisodeError(f"{path}: cannot be changed: {error}") from error
