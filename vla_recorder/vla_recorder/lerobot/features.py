"""What of an episode goes under which feature of a LeRobot data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_recorder.episode.layout import COMMAND_SOURCES, FLOAT, NO_STAMP
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.lerobot import layout
from vla_recorder.lerobot.layout import LeRobotError, vector

_SOURCES = {layout.STATE: "qpos", layout.ACTION: "action", layout.VELOCITY: "qvel", layout.EFFORT: "effort"}
_REQUIRED = (layout.STATE, layout.ACTION)
_OURS = (
    *(layout.STAMP, layout.COMMAND, layout.SOURCE, layout.LEADER, layout.STREAM_STAMP, layout.FRESH),
    *(layout.REPEATED, layout.SUBSTEP, layout.INTERVENTIONS),
)


@dataclass(frozen=True)
class Facts:
    """An episode without its rows: many of them are known at once, one is open at a time."""

    path: Path
    rows: int
    rate_hz: float | None
    robot: str
    state_names: list[str]
    action_names: list[str]
    cameras: dict[str, tuple[int, int]]  # name -> (height, width)
    streams: list[str]
    leader: bool
    features: list[str]  # that it can fill, images aside
    besides: dict  # what no feature holds, as JSON values


def facts(path: Path) -> Facts:
    """Raises LeRobotError for an episode without rows, or whose state or action is not finite."""
    with EpisodeReader(path) as episode:
        if not len(episode):
            raise LeRobotError(f"{path}: has no rows")
        return Facts(
            path=path,
            rows=len(episode),
            rate_hz=episode.control_rate_hz,
            robot=episode.rig_name,
            state_names=episode.state_names,
            action_names=episode.action_names,
            cameras={name: tuple(episode.images(name).shape[1:3]) for name in episode.camera_names},
            streams=episode.stream_names,
            leader=episode.leader is not None,
            features=[*_vectors(episode), *(() if episode.stamps_ns is None else _OURS)],
            besides=_besides(episode),
        )


def streams(episodes: Sequence[Facts]) -> list[str]:
    """All streams that some episode has: leader arms are there in one and not in the next."""
    return list(dict.fromkeys(name for episode in episodes for name in episode.streams))


def columns(episode: EpisodeReader, streams: Sequence[str]) -> dict[str, np.ndarray]:
    """Feature -> values of every row (T, ...), images aside.

    Velocities and efforts that are not finite are left out: not every rig has them. Of `streams` (N) those that the
    episode does not have are without stamps and never fresh; leaders that it does not have are NaN.
    """
    T = len(episode)
    values = _vectors(episode)
    if episode.stamps_ns is None:
        return values  # a plain ACT file
    own = [streams.index(name) for name in episode.stream_names]

    def of_streams(values: np.ndarray, nothing) -> np.ndarray:
        wide = np.full((T, len(streams)), nothing, values.dtype)
        wide[:, own] = values
        return wide

    return values | {
        layout.STAMP: episode.stamps_ns,
        layout.COMMAND: episode.command[:T],
        layout.SOURCE: np.array([COMMAND_SOURCES[name] for name in episode.command_sources], np.int64),
        layout.LEADER: _leader(episode),
        layout.STREAM_STAMP: of_streams(episode.stream_stamps_ns, NO_STAMP),
        layout.FRESH: of_streams(episode.fresh, False),
        layout.REPEATED: of_streams(episode.repeated, False),
        layout.SUBSTEP: np.array(episode.substeps, object),
        layout.INTERVENTIONS: np.array(episode.interventions, object),
    }


def _vectors(episode: EpisodeReader) -> dict[str, np.ndarray]:
    values = {}
    for feature, name in _SOURCES.items():
        rows = getattr(episode, name)[: len(episode)].astype(FLOAT)
        if np.isfinite(rows).all():
            values[feature] = rows
        elif feature in _REQUIRED:
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise LeRobotError(
                f"{episode.path}: {name} of row {row} is not finite; a data set needs it whole"
            )
    return values


def _leader(episode: EpisodeReader) -> np.ndarray:
    if episode.leader is None:
        return np.full(episode.action[: len(episode)].shape, np.nan, np.float32)
    return episode.leader[: len(episode)]


def features(episodes: Sequence[Facts]) -> dict[str, dict]:
    """The features that all episodes have. LeRobotError names the first episode that does not fit the others."""
    first = episodes[0]
    for episode in episodes[1:]:
        for what in ("cameras", "state_names", "action_names", "rate_hz"):
            if getattr(episode, what) != getattr(first, what):
                raise LeRobotError(
                    f"{episode.path}: {what} is {getattr(episode, what)}, {first.path} has {getattr(first, what)}"
                )
    common = [name for name in first.features if all(name in episode.features for episode in episodes)]
    if not any(episode.leader for episode in episodes):
        common = [name for name in common if name != layout.LEADER]
    names = {
        **dict.fromkeys((layout.STATE, layout.VELOCITY, layout.EFFORT), first.state_names),
        **dict.fromkeys((layout.ACTION, layout.COMMAND, layout.LEADER), first.action_names),
        **dict.fromkeys((layout.STREAM_STAMP, layout.FRESH, layout.REPEATED), streams(episodes)),
    }
    found = {name: vector(len(names.get(name, " ")), names.get(name), layout.dtype(name)) for name in common}
    return found | {
        layout.IMAGES + name: _video(first.path, name, size) for name, size in first.cameras.items()
    }


def _video(path: Path, camera: str, size: tuple[int, int]) -> dict:
    if size[0] % 2 or size[1] % 2:
        raise LeRobotError(f"{path}: {camera}: video needs even sides, frames are {size[0]} x {size[1]}")
    return {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"]}


def rate_hz(episodes: Sequence[Facts], given: int | None) -> int:
    """Frames per second, a whole number: the episodes' own, or `given` for files that know none."""
    path, own = episodes[0].path, episodes[0].rate_hz
    if own is None and given is None:
        raise LeRobotError(f"{path} does not say its rate; give one with --rate-hz")
    rate = own if own is not None else given
    if rate < 1 or rate != round(rate) or (given is not None and given != rate):
        raise LeRobotError(f"{path}: rows are at {rate:g} Hz; LeRobot needs whole and equal rates")
    return round(rate)


def _besides(episode: EpisodeReader) -> dict:
    return {
        "file": episode.path.name,
        "sim": episode.sim,
        "rig": episode.rig_text,
        "attributes": episode.attributes,
        "stream_names": episode.stream_names,
        "stream_topics": episode.stream_topics,
        "leader": episode.leader is not None,
    }
