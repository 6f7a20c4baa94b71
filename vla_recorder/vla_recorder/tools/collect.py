"""Episodes of many folders in one, and numbers without gaps: ACT's loader wants episode_0 to episode_{N-1}."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vla_recorder.episode import layout
from vla_recorder.episode.disk import sync_folder
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.lock import FolderLock
from vla_recorder.tools.files import episodes_in
from vla_recorder.tools.interrupt import deferred
from vla_recorder.tools.progress import bar
from vla_recorder.tools.whole import new_file

_COPY_BYTES = 8 << 20


@dataclass(frozen=True)
class Step:
    """One file that gets another name."""

    source: Path
    target: Path


def plan_merge(sources: Iterable[Path], folder: Path) -> list[Step]:
    """The sources, in their order, under the numbers after the folder's own.

    A source that is in the folder already, by a second name or as a copy, is left out: a second run finishes a killed
    one.
    Raises EpisodeError when the folder's own numbers have gaps, when something in it or a source is unfinished, or
    when a source lies in the folder already.
    """
    _refuse_unfinished(folder)
    present = episodes_in(folder) if folder.exists() else []
    if [layout.index_of(path) for path in present] != list(range(len(present))):
        raise EpisodeError(f"{folder}: its numbers have gaps; run `episode renumber {folder}` first")
    known: dict[tuple[int, int], list[Path]] = {}
    for path in present:
        _is_new(path, known)
    steps = []
    for source in sources:
        if source.resolve().parent == folder.resolve():
            raise EpisodeError(f"{source}: is in {folder} already")
        if source.name.endswith(layout.PARTIAL_SUFFIX) or _journal(source):
            raise EpisodeError(f"{source}: is unfinished; run `episode recover {source.parent}` first")
        if _is_new(source, known):
            steps.append(Step(source, layout.episode_path(folder, len(present) + len(steps))))
    return steps


def merge(steps: list[Step], folder: Path, copy: bool, done: Callable[[Step], None]) -> None:
    """Give each source a second name in `folder` (a hard link: no disk space), or a copy when asked or needed.

    `done` is called after each. Complete files only get their names; killed in the middle, the steps done are there and
    the others are not.
    """
    size = sum(step.source.stat().st_size for step in steps)
    with (
        deferred(),
        FolderLock(folder, "episode merge"),
        bar(size, "merge", "B", unit_scale=True) as progress,
    ):
        for step in steps:
            if copy or not _link(step):
                _copy(step, progress)
                done(step)
            else:
                done(step)
                progress.update(step.source.stat().st_size)
        sync_folder(folder)


def plan_renumber(folder: Path) -> list[Step]:
    """What has to be renamed so that numbers run from 0 without a gap; the order stays.

    Raises EpisodeError when an unfinished episode would keep its number.
    """
    _refuse_unfinished(folder)
    numbered = enumerate(episodes_in(folder))
    steps = [Step(path, layout.episode_path(folder, number)) for number, path in numbered]
    return [step for step in steps if step.source != step.target]


def _refuse_unfinished(folder: Path) -> None:
    """A file that gets the number of an unfinished episode would be taken for a part of it."""
    for suffix in (layout.PARTIAL_SUFFIX, layout.JOURNAL_SUFFIX):
        for path in sorted(folder.glob(f"episode_*{suffix}")):
            raise EpisodeError(f"{path}: is unfinished; run `episode recover {folder}` first")


def renumber(folder: Path) -> list[Step]:
    """Rename the folder's episodes; returns what was renamed.

    Numbers only become smaller, lowest first, so that each target is free when its turn comes: one rename for each
    file, and a folder that is whole and in order after every one of them. A second run finishes a killed one.
    Nobody can record here meanwhile. Raises EpisodeError when somebody does.
    """
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: is not a folder")
    with deferred(), FolderLock(folder, "episode renumber"):
        steps = plan_renumber(folder)
        for step in steps:
            if step.target.exists():  # not by a recorder or by us: the folder is locked
                raise EpisodeError(f"{step.target}: appeared while renaming; run the command again")
            os.rename(step.source, step.target)
        sync_folder(folder)
    return steps


def _is_new(path: Path, known: dict[tuple[int, int], list[Path]]) -> bool:
    """Whether no known file is the same; it is known then. A copy keeps size and time, and its bytes decide."""
    status = path.stat()
    twins = known.setdefault((status.st_size, status.st_mtime_ns), [])
    if any(path.samefile(twin) or filecmp.cmp(path, twin, shallow=False) for twin in twins):
        return False
    twins.append(path)
    return True


def _journal(source: Path) -> bool:
    index = layout.index_of(source)
    return index is not None and layout.journal_path(source.parent, index).exists()


def _link(step: Step) -> bool:
    """False where the target is on another disk, or its file system has no hard links."""
    try:
        os.link(step.source, step.target)
    except FileExistsError:
        raise EpisodeError(f"{step.target}: exists already; nothing is overwritten") from None
    except OSError:
        return False
    return True


def _copy(step: Step, progress) -> None:
    with new_file(step.target) as partial, open(step.source, "rb") as source, open(partial, "r+b") as made:
        while block := source.read(_COPY_BYTES):
            made.write(block)
            progress.update(len(block))
    with contextlib.suppress(OSError):  # the time of the recording, where the file system keeps it
        times = step.source.stat()
        os.utime(step.target, ns=(times.st_atime_ns, times.st_mtime_ns))
