"""What can be done with an episode that is already saved: label it, or put it away. Nothing is ever deleted."""

from __future__ import annotations

import os
from pathlib import Path

from vla_recorder.episode import layout, recover
from vla_recorder.episode.editing import edited
from vla_recorder.episode.layout import EpisodeError


def relabel(path: str | Path, label: str) -> None:
    """Write the label, one of layout.LABELS, into a saved episode; a crash meanwhile leaves the old one.

    Raises EpisodeError when it cannot be, also while the recorder still syncs the file.
    """
    if label not in layout.LABELS:
        raise ValueError(f"label must be one of {layout.LABELS}, got {label!r}")
    with edited(path) as file:
        file[layout.VLA].attrs["label"] = label


def in_trash(path: str | Path) -> bool:
    """Whether this is a discarded episode, wherever its folder lies."""
    return Path(path).name.endswith(layout.TRASHED_SUFFIX)


def put_away(path: str | Path) -> Path:
    """Move a saved episode to the trash folder beside it, under a name that never clashes; returns it."""
    path = Path(path)
    target = recover.trash_path(path.parent, layout.index_of(path))
    try:
        target.parent.mkdir(exist_ok=True)
        os.rename(path, target)
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be moved to the trash: {error}") from error
    return target
