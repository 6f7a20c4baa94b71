"""How a new file, folder or episode comes to be: whole, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vla_recorder.episode import layout
from vla_recorder.episode.disk import sync_folder
from vla_recorder.episode.layout import EpisodeError, EpisodeHeader, Row
from vla_recorder.episode.writer import EpisodeWriter
from vla_recorder.tools.interrupt import deferred

SUFFIX = ".unfinished"  # not the recorder's .partial, which `recover` makes episodes of


@contextlib.contextmanager
def new_file(final: Path) -> Iterator[Path]:
    """A path to write to, `.NAME.unfinished`, that becomes `final` at the end: synced, and with one step.

    When the block raises, or the process is killed, there is no `final`; Ctrl-C is `deferred`. What a killed process
    left is replaced. Raises EpisodeError when `final` exists, also when it comes to exist meanwhile, when another
    process is making it, or when the folder cannot be written.
    """
    with deferred(), _claimed(final, _create_file, Path.unlink) as (partial, fd):
        yield partial
        os.fsync(fd)
        _check_same(partial, fd)
        _give_name(partial, final)
        sync_folder(final.parent)


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """The same for a folder with all that is in it."""
    with deferred(), _claimed(final, _create_folder, shutil.rmtree) as (partial, fd):
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        _check_same(partial, fd)
        os.rename(partial, final)  # of what may be there meanwhile it replaces nothing but an empty folder
        sync_folder(final.parent)


def new_episode(folder: Path, header: EpisodeHeader, rows: Iterable[Row], end_reason: str, **closing) -> Path:
    """Write an episode that is made out of something else, under the first free number; its path.

    `closing` are further arguments of EpisodeWriter.close. Where `rows` raise, nothing is kept, not even in the trash:
    what they are made of is still there. Ctrl-C is `deferred`. Raises EpisodeError when it cannot be written.
    """
    with deferred():
        writer = EpisodeWriter(folder, header)
        try:
            for row in rows:
                writer.append(row)
        except BaseException:
            trashed = writer.discard("could not be made")
            writer.wait_synced()
            trashed.unlink()
            with contextlib.suppress(OSError):  # it has other files
                trashed.parent.rmdir()
            raise
        return writer.close(end_reason, **closing)


@contextlib.contextmanager
def _claimed(final: Path, create: Callable[[Path], int], remove: Callable) -> Iterator[tuple[Path, int]]:
    """(what is written to, descriptor that holds it); it is gone at the end. EpisodeError for OSError."""
    partial = final.with_name(f".{final.name}{SUFFIX}")
    if final.exists():
        raise EpisodeError(f"{final}: exists already; nothing is overwritten")
    index = layout.index_of(final)
    if index is not None and layout.journal_path(final.parent, index).exists():
        raise EpisodeError(f"{final}: an unfinished episode has this number; see `episode recover --help`")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(partial, remove)
        fd = create(partial)
    except OSError as error:
        raise EpisodeError(f"{final}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)  # shared: HDF5 locks what it reads, in the same way
        yield partial, fd
    except OSError as error:
        if error.errno is None:  # not the system's: HDF5 could not read what this is made of
            raise
        raise EpisodeError(f"{final}: cannot be written: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            remove(partial)
        os.close(fd)


def _remove_left(partial: Path, remove: Callable) -> None:
    """What a killed process left is removed, never written to: a file may be a second name of a finished one."""
    with contextlib.suppress(FileNotFoundError):
        left = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(partial, left):
                remove(partial)
        except BlockingIOError:
            raise EpisodeError(f"{partial}: another process is writing this just now") from None
        finally:
            os.close(left)


def _create_file(partial: Path) -> int:
    return os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _create_folder(partial: Path) -> int:
    partial.mkdir()
    return os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is(path: Path, fd: int) -> bool:
    return os.path.samestat(path.stat(), os.fstat(fd))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_same(partial: Path, fd: int) -> None:
    if not _is(partial, fd):
        raise EpisodeError(f"{partial}: was replaced by another process meanwhile; nothing was written")


def _give_name(partial: Path, final: Path) -> None:
    try:
        os.link(partial, final)  # unlike a rename, it never replaces
    except FileExistsError:
        raise EpisodeError(f"{final}: was made by somebody else meanwhile; nothing is overwritten") from None
    except OSError:  # a file system without hard links
        if final.exists():
            raise EpisodeError(f"{final}: was made by somebody else meanwhile") from None
        os.rename(partial, final)
