"""Which files a command line means, and how a new file comes to be: whole, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vla_recorder.episode import layout
from vla_recorder.episode.disk import sync_folder
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.recover import find_damaged

SUFFIX = ".unfinished"  # not the recorder's .partial, which `recover` makes episodes of
_PATTERN = re.compile(r"[*?\[]")


def find(arguments: Iterable[str | Path]) -> list[Path]:
    """The episode files that the arguments name: files, folders (their finished episodes, by number), patterns.

    Each file once, in the order of the arguments. Raises EpisodeError for an argument that names none.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        found.update(dict.fromkeys(_named(Path(argument))))
    return list(found)


def episodes_in(folder: Path) -> list[Path]:
    """The finished episodes of a folder, by number. Raises EpisodeError when it cannot be read."""
    try:
        names = [path for path in folder.iterdir() if path.suffix == ".hdf5"]
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted((path for path in names if layout.index_of(path) is not None), key=layout.index_of)


def by_number(path: Path) -> list:
    """Sort key: episode_10 comes after episode_9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def _named(path: Path) -> list[Path]:
    if path.is_dir():
        found = episodes_in(path)
        if not found:
            unfinished = len(find_damaged(path))
            hint = f", but {unfinished} unfinished: run `episode recover {path}`" if unfinished else ""
            raise EpisodeError(f"{path}: has no finished episodes (episode_0.hdf5, ...){hint}")
        return found
    if path.exists():
        return [path]
    matches = map(Path, glob.glob(str(path), recursive=True)) if _PATTERN.search(str(path)) else []
    found = sorted((match for match in matches if match.is_file()), key=by_number)
    if not found:
        raise EpisodeError(f"{path}: no such file; give an episode, a folder of episodes, or a pattern")
    return found


@contextlib.contextmanager
def new_file(final: Path) -> Iterator[Path]:
    """A path to write to, `.NAME.unfinished`, that becomes `final` at the end: synced, and with one step.

    When the block raises, or the process is killed, there is no `final`. What a killed process left is replaced.
    Raises EpisodeError when `final` exists, also when it comes to exist meanwhile, when another process is making
    it, or when the folder cannot be written.
    """
    partial = final.with_name(f".{final.name}{SUFFIX}")
    if final.exists():
        raise EpisodeError(f"{final}: exists already; nothing is overwritten")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        fd = _claim(partial)
    except OSError as error:
        raise EpisodeError(f"{final}: cannot be written: {error.strerror}") from error
    try:
        yield partial
        os.fsync(fd)
        _publish(partial, fd, final)
    except OSError as error:
        raise EpisodeError(f"{final}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
        os.close(fd)


def _claim(partial: Path) -> int:
    """A new, locked file. One that a killed process left is unlinked, never written to: it may be a second name."""
    with contextlib.suppress(FileNotFoundError):
        left = os.open(partial, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(partial, left):
                partial.unlink()
        except BlockingIOError:
            raise EpisodeError(f"{partial}: another process is writing this file just now") from None
        finally:
            os.close(left)
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    fcntl.flock(fd, fcntl.LOCK_SH)  # shared: HDF5 locks what it reads, in the same way
    return fd


def _is(path: Path, fd: int) -> bool:
    return os.path.samestat(path.stat(), os.fstat(fd))


def _publish(partial: Path, fd: int, final: Path) -> None:
    if not _is(partial, fd):
        raise EpisodeError(f"{partial}: was replaced by another process meanwhile; nothing was written")
    try:
        os.link(partial, final)  # unlike a rename, it never replaces
    except FileExistsError:
        raise EpisodeError(f"{final}: was made by somebody else meanwhile; nothing is overwritten") from None
    except OSError:  # a file system without hard links
        if final.exists():
            raise EpisodeError(f"{final}: was made by somebody else meanwhile") from None
        os.rename(partial, final)
    sync_folder(final.parent)
