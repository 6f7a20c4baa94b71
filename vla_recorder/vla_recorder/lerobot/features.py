"""What of an episode goes under which feature of a LeRobot data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vla_recorder.episode.layout import COMMAND_SOURCES, NO_STAMP
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.lerobot import layout
from vla_recorder.lerobot.layout import LeRobotError, vector

_SOURCES = {layout.STATE: "qpos", layout.ACTION: "action", layout.VELOCITY: "qvel", layout.EFFORT: "effort"}
_REQUIRED = (layout.STATE, layout.ACTION)


def streams(episodes: Sequence[EpisodeReader]) -> list[str]:
    """All streams that some episode has: leader arms are there in one and not in the next."""
    return list(dict.fromkeys(name for episode in episodes for name in episode.stream_names))


def columns(episode: EpisodeReader, streams: Sequence[str]) -> dict[str, np.ndarray]:
    """Feature -> values of every row (T, ...), images aside. LeRobotError when state or action is not finite.

    Velocities and efforts that are not finite are left out: not every rig has them. Of `streams` (N) those that the
    episode does not have are without stamps and never fresh; leaders that it does not have are NaN.
    """
    T = len(episode)
    values = {}
    for feature, name in _SOURCES.items():
        rows = getattr(episode, name)[:T]
        if np.isfinite(rows).all():
            values[feature] = rows
        elif feature in _REQUIRED:
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise LeRobotError(
                f"{episode.path}: {name} of row {row} is not finite; a data set needs it whole"
            )
    if episode.stamps_ns is None:
        return values  # a plain ACT file
    codes = np.array([COMMAND_SOURCES[name] for name in episode.command_sources], np.int64)
    own = [streams.index(name) for name in episode.stream_names]

    def of_streams(values: np.ndarray, nothing) -> np.ndarray:
        wide = np.full((T, len(streams)), nothing, values.dtype)
        wide[:, own] = values
        return wide

    return values | {
        layout.STAMP: episode.stamps_ns,
        layout.COMMAND: episode.command[:T],
        layout.SOURCE: codes,
        layout.LEADER: _leader(episode),
        layout.STREAM_STAMP: of_streams(episode.stream_stamps_ns, NO_STAMP),
        layout.FRESH: of_streams(episode.fresh, False),
        layout.REPEATED: of_streams(episode.repeated, False),
        layout.SUBSTEP: np.array(episode.substeps, object),
        layout.INTERVENTIONS: np.array(episode.interventions, object),
    }


def _leader(episode: EpisodeReader) -> np.ndarray:
    if episode.leader is None:
        return np.full(episode.action[: len(episode)].shape, np.nan, np.float32)
    return episode.leader[: len(episode)]


def features(episodes: Sequence[EpisodeReader]) -> dict[str, dict]:
    """The features that all episodes have. LeRobotError names the first episode that does not fit the others."""
    first = episodes[0]
    for episode in episodes[1:]:
        for what in ("camera_names", "state_names", "action_names", "control_rate_hz"):
            if getattr(episode, what) != getattr(first, what):
                raise LeRobotError(
                    f"{episode.path}: {what} is {getattr(episode, what)}, {first.path} has {getattr(first, what)}"
                )
    all_streams = streams(episodes)
    known = [columns(episode, all_streams) for episode in episodes]
    if all(episode.leader is None for episode in episodes):
        for values in known:
            values.pop(layout.LEADER, None)
    names = {
        layout.STATE: first.state_names,
        layout.VELOCITY: first.state_names,
        layout.EFFORT: first.state_names,
        layout.ACTION: first.action_names,
        layout.COMMAND: first.action_names,
        layout.LEADER: first.action_names,
    } | dict.fromkeys((layout.STREAM_STAMP, layout.FRESH, layout.REPEATED), all_streams)
    found = {
        name: _feature(value, names.get(name))
        for name, value in known[0].items()
        if all(name in values for values in known)
    }
    return found | {layout.IMAGES + camera: _video(episodes, camera) for camera in first.camera_names}


def _feature(values: np.ndarray, names: list[str] | None) -> dict:
    dtype = "string" if values.dtype == object else values.dtype.name
    return vector(1 if values.ndim == 1 else values.shape[1], names, dtype)


def _video(episodes: Sequence[EpisodeReader], camera: str) -> dict:
    sizes = {tuple(episode.images(camera).shape[1:3]) for episode in episodes}
    if len(sizes) > 1:
        raise LeRobotError(f"camera {camera}: the episodes' frames differ in size: {sorted(sizes)}")
    (height, width) = sizes.pop()
    if height % 2 or width % 2:
        raise LeRobotError(f"camera {camera}: video needs even sides, frames are {height} x {width}")
    return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"]}


def rate_hz(episodes: Sequence[EpisodeReader], given: int | None) -> int:
    """Frames per second, a whole number: the episodes' own, or `given` for files that know none."""
    own = episodes[0].control_rate_hz
    if own is None and given is None:
        raise LeRobotError(f"{episodes[0].path} does not say its rate; give one with --rate-hz")
    rate = own if own is not None else given
    if rate != round(rate) or (given is not None and given != rate):
        raise LeRobotError(
            f"{episodes[0].path}: rows are at {rate:g} Hz; LeRobot needs whole and equal rates"
        )
    return round(rate)


def known_besides(episode: EpisodeReader, path: Path) -> dict:
    """What the episode file knows that no LeRobot feature holds, as JSON values."""
    return {
        "file": path.name,
        "sim": episode.sim,
        "rig": episode.rig_text,
        "attributes": episode.attributes,
        "stream_names": episode.stream_names,
        "stream_topics": episode.stream_topics,
        "leader": episode.leader is not None,
    }
