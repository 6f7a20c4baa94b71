"""Recorded episodes as training reads them: vectors, masks and what rig they belong to; images stay in the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader

Shift = Literal["auto", "none", "act"]
SHIFTS = ("auto", "none", "act")


class TrainingError(ValueError):
    """Training cannot go on; the message names the file or option and says what was expected."""


@dataclass(frozen=True)
class Rows:
    """The vectors of one episode, T rows."""

    path: Path
    instruction: str
    state: np.ndarray  # (T, S) float32, rig units; NaN where the source was stale
    action: np.ndarray  # (T, A) float32, rig units; row t is the action for the observation of row t
    observed: np.ndarray  # (T,) bool: state finite, cameras and joints fresh
    commanded: np.ndarray  # (T,) bool: action finite, and fresh

    def __len__(self) -> int:
        return len(self.state)


@dataclass(frozen=True)
class Source:
    """What all episodes of a data set have in common."""

    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    camera_names: tuple[str, ...]
    rate_hz: float | None  # None: a plain ACT file does not know
    rig_text: str | None  # None: a plain ACT file has no rig


@dataclass(frozen=True)
class EpisodeSet:
    """Episodes that may be trained on together."""

    source: Source
    episodes: tuple[Rows, ...]
    shifted: int  # how many got ACT's one-row shift

    @property
    def rows(self) -> int:
        return sum(map(len, self.episodes))

    @property
    def left_out(self) -> int:
        """Rows that are no observation to learn from."""
        return sum(int((~episode.observed).sum()) for episode in self.episodes)


def find_episodes(path: Path | str) -> list[Path]:
    """The episode files of a folder in the order of their numbers, or the one file that `path` is. TrainingError."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TrainingError(f"{path}: no such folder of episodes")
    found = [file for file in path.glob("episode_*.hdf5") if layout.index_of(file) is not None]
    if not found:
        raise TrainingError(
            f"{path}: has no episode_*.hdf5; record some with `vla record`, or name another folder"
        )
    return sorted(found, key=layout.index_of)


def read_episodes(
    files: Sequence[Path], cameras: Sequence[str] | None = None, shift: Shift = "auto"
) -> EpisodeSet:
    """Read the vectors of all files and make sure that they belong together.

    `cameras` picks and orders cameras; None takes all, in the first file's order. `shift` says where the action
    of an observation stands: our recorder writes it in the same row ("none"). ACT's own loaders pair the
    observation of row t with actions from row t - 1 on when the file says sim=False (utils.py, EpisodicDataset);
    "act" does as they do. "auto" does so for files without our additions alone: they mean here what they mean
    there.

    Raises TrainingError, which names the file and the channel or camera that does not fit.
    """
    source, episodes, shifted = None, [], 0
    for file in files:
        try:
            with EpisodeReader(file) as reader:
                own = _source(reader, cameras)
                if source is not None:
                    _compare(source, files[0], own, file)
                source = source or own
                early = _is_shifted(reader, shift)
                episodes.append(_rows(reader, source, early))
                shifted += early
        except (EpisodeError, OSError, KeyError) as error:
            text = str(error)
            raise TrainingError(text if str(file) in text else f"{file}: {text}") from error
    return EpisodeSet(source, tuple(episodes), shifted)


def _source(reader: EpisodeReader, cameras: Sequence[str] | None) -> Source:
    missing = [name for name in cameras or () if name not in reader.camera_names]
    if missing or not reader.camera_names:
        has = ", ".join(reader.camera_names) or "none"
        raise TrainingError(f"{reader.path}: has no camera {', '.join(missing) or 'at all'}; it has: {has}")
    return Source(
        tuple(reader.state_names),
        tuple(reader.action_names),
        tuple(cameras or reader.camera_names),
        reader.control_rate_hz,
        reader.rig_text,
    )


def _rows(reader: EpisodeReader, source: Source, shifted: bool) -> Rows:
    T = len(reader)
    state, action = reader.qpos[:T], reader.action[:T]
    observed, commanded = np.isfinite(state).all(axis=1), np.isfinite(action).all(axis=1)
    if reader.fresh is not None:
        names = reader.stream_names
        needed = [i for i, name in enumerate(names) if name in _observed_streams(source)]
        observed &= reader.fresh[:, needed].all(axis=1)
        commanded &= reader.fresh[:, [i for i, name in enumerate(names) if name == "command"]].all(axis=1)
    if shifted:
        earlier = np.maximum(np.arange(T) - 1, 0)
        action, commanded = action[earlier], commanded[earlier]
    return Rows(reader.path, reader.instruction, state, action, observed, commanded)


def _observed_streams(source: Source) -> set[str]:
    """Streams that an observation is made of: the cameras, and the joint sources that the state reads."""
    state = _rig(source).get("state") or []
    return {*source.camera_names, *(channel["source"] for channel in state)}


def _rig(source: Source) -> dict[str, Any]:
    return (yaml.safe_load(source.rig_text) if source.rig_text else None) or {}


def _is_shifted(reader: EpisodeReader, shift: Shift) -> bool:
    plain = layout.VLA not in reader.file
    return not reader.sim and (shift == "act" or (shift == "auto" and plain))


def _compare(first: Source, first_file: Path, other: Source, file: Path) -> None:
    """TrainingError naming the first channel, camera or unit in which two episodes differ."""
    for what in ("state", "action", "camera"):
        _compare_names(
            what, getattr(first, f"{what}_names"), getattr(other, f"{what}_names"), first_file, file
        )
    if first.rate_hz != other.rate_hz:
        raise TrainingError(f"{file}: recorded at {other.rate_hz} Hz, {first_file} at {first.rate_hz} Hz")
    if first.rig_text != other.rig_text:
        mine, theirs = _rig(first), _rig(other)
        for what in ("state", "action"):
            for a, b in zip(_meaning(mine, what), _meaning(theirs, what), strict=False):
                if a != b:
                    raise TrainingError(
                        f"{file}: {what} channel {b[0]} means something else than in {first_file}: {b[1:]}, not {a[1:]}"
                    )


def _compare_names(
    what: str, first: tuple[str, ...], other: tuple[str, ...], first_file: Path, file: Path
) -> None:
    for i in range(max(len(first), len(other))):
        a, b = (names[i] if i < len(names) else "nothing" for names in (first, other))
        if a != b:
            raise TrainingError(
                f"{file}: {what} {i} is {b}, in {first_file} it is {a}; train on one rig at a time"
            )


def _meaning(rig: dict[str, Any], what: str) -> list[tuple]:
    """(name, unit, quantity, range ends) of each channel of an embedded rig: what its numbers mean."""
    ranges = rig.get("ranges") or {}
    return [
        (channel.get("name"), channel.get("unit"), channel.get("quantity"), ranges.get(channel.get("range")))
        for channel in rig.get(what) or []
    ]
