"""Which files a command line means."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.recover import find_damaged

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


def targets(paths: Iterable[Path], target_of: Callable[[Path], Path]) -> dict[Path, Path]:
    """Source -> target for each path. Raises EpisodeError when two would have one target."""
    sources: dict[Path, Path] = {}
    for path in paths:
        target = target_of(path)
        if target in sources:
            raise EpisodeError(
                f"{sources[target]} and {path} would both become {target}: give each folder a target of its own"
            )
        sources[target] = path
    return {source: target for target, source in sources.items()}


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
