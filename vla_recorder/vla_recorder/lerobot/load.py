"""A LeRobot data set, format v3.0 -> episode files.

A data set that `export` wrote comes back with all its numbers, stamps and texts; the frames went through a lossy video.
Of any other data set the file says what it knows: rows at its rate, fresh by assumption, units unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa

from vla_recorder.episode.layout import COMMAND_SOURCES, EpisodeHeader, Row
from vla_recorder.lerobot import layout
from vla_recorder.lerobot.layout import LeRobotError
from vla_recorder.lerobot.video import read_frames
from vla_recorder.tools.whole import new_episode

_SOURCE_NAMES = {code: name for name, code in COMMAND_SOURCES.items()}


def load(
    source: Path,
    folder: Path,
    image_form: str = "raw",
    sim: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Iterator[Path]:
    """Write every episode of the data set `source` as a file into `folder`, under the first free numbers.

    Yields each path when it is there. `sim` is for data sets that do not say; `progress(rows)` is called as rows are
    written. Raises LeRobotError or EpisodeError; what is done stays.
    """
    data = DataSet(source)
    for index in range(len(data)):
        yield data.write_episode(index, folder, image_form, sim, progress)


@dataclass(frozen=True)
class DataSet:
    """The folder of a data set, read as asked for."""

    folder: Path

    def __post_init__(self) -> None:
        version = self.info.get("codebase_version")
        if version != layout.VERSION:
            raise LeRobotError(f"{self.folder}: format {version}, expected {layout.VERSION}")
        unknown = [key for key in ("fps", "data_path", "video_path") if key not in self.info]
        if unknown:
            raise LeRobotError(f"{self.folder / layout.INFO}: has no {', '.join(unknown)}")
        missing = [name for name in (layout.STATE, layout.ACTION) if name not in self.features]
        if missing:
            raise LeRobotError(
                f"{self.folder}: no feature {', '.join(missing)}; it has {', '.join(self.features)}"
            )

    def __len__(self) -> int:
        return len(self._episodes)

    @cached_property
    def info(self) -> dict:
        return layout.read_json(self.folder / layout.INFO)

    @property
    def features(self) -> dict[str, dict]:
        return self.info.get("features", {})

    @property
    def total_frames(self) -> int:
        return sum(episode["length"] for episode in self._episodes)

    @cached_property
    def cameras(self) -> dict[str, str]:
        """Camera name -> feature; only videos can be read."""
        kinds = {n: f["dtype"] for n, f in self.features.items() if f["dtype"] in ("video", "image")}
        if "image" in kinds.values():
            raise LeRobotError(f"{self.folder}: frames stored as single images are not supported, videos are")
        return {name.removeprefix(layout.IMAGES).replace(".", "_"): name for name in kinds}

    @cached_property
    def _episodes(self) -> list[dict]:
        paths = sorted(self.folder.glob("meta/episodes/*/*.parquet"))
        if not paths:
            raise LeRobotError(f"{self.folder}: no meta/episodes/*/*.parquet")
        tables = [layout.read_table(path) for path in paths]
        names = [name for name in tables[0].column_names if not name.startswith("stats/")]
        rows = [row for table in tables for row in table.select(names).to_pylist()]
        return sorted(rows, key=lambda row: row["episode_index"])

    @cached_property
    def _tasks(self) -> dict[int, str]:
        return layout.read_texts(self.folder / layout.TASKS, "task_index")

    @cached_property
    def _ours(self) -> list[dict]:
        path = self.folder / layout.OURS
        if not path.exists():
            return [{}] * len(self)
        ours = layout.read_json(path).get("episodes", [])
        if len(ours) != len(self):
            raise LeRobotError(f"{path} describes {len(ours)} episodes, the data set has {len(self)}")
        return ours

    def write_episode(
        self, index: int, folder: Path, image_form: str, sim: bool, progress: Callable[[int], None]
    ) -> Path:
        """One episode as a file; returns its path."""
        episode, ours = self._episodes[index], self._ours[index]
        columns = self._columns(episode, self._streams(ours))
        header = self._header(columns, ours, image_form, sim)
        attributes = ours.get("attributes", {})
        reason = attributes.get("end_reason", f"imported from LeRobot data set {self.folder.resolve().name}")
        label = attributes.get("label", "none")
        quality = json.loads(attributes["quality"]) if attributes.get("quality") else None
        rows = self._rows(episode, columns, progress)
        return new_episode(folder, header, rows, reason, label=label, quality=quality)

    def _header(self, columns: dict, ours: dict, image_form: str, sim: bool) -> EpisodeHeader:
        attributes, cameras = ours.get("attributes", {}), self.cameras
        states, actions = self._names(layout.STATE), self._names(layout.ACTION)
        streams = self._streams(ours)
        topics = dict(zip(streams, ours.get("stream_topics", []), strict=False))  # a plain ACT file had none
        return EpisodeHeader(
            state_names=states,
            state_units=attributes.get("state_units", ["unknown"] * len(states)),
            action_names=actions,
            action_units=attributes.get("action_units", ["unknown"] * len(actions)),
            cameras={name: tuple(self.features[key]["shape"][:2]) for name, key in cameras.items()},
            stream_names=streams,
            stream_topics=[topics.get(name, "") for name in streams],
            control_rate_hz=float(self.info["fps"]),
            instruction=self._tasks[int(columns["task_index"][0])],
            sim=ours.get("sim", sim),
            rig=ours.get("rig") or f"name: {self.info.get('robot_type') or 'unknown'}\n",
            action_from=attributes.get("action_from", "command"),
            checkpoint=attributes.get("checkpoint", ""),
            software=attributes.get("software", ""),
            started=attributes.get("started", ""),
            image_form=image_form,
            leader=ours.get("leader", False),
        )

    def _streams(self, ours: dict) -> list[str]:
        """The streams of an episode; where the data set knows none, the cameras, the state and the command."""
        if layout.FRESH not in self.features:
            return [*self.cameras, "state", "command"]
        return ours.get("stream_names", self.features[layout.FRESH]["names"])

    def _names(self, feature: str) -> list[str]:
        """Channel names; v3 also allows {"motors": [...]}, and none."""
        names, (width,) = self.features[feature].get("names"), self.features[feature]["shape"]
        if isinstance(names, dict):
            names = next(iter(names.values()), None)
        return list(names) if names and len(names) == width else [f"{feature} {i}" for i in range(width)]

    def _columns(self, episode: dict, streams: list[str]) -> dict[str, np.ndarray]:
        """The episode's rows; of the data set's streams those that it has."""
        path = self.folder / self.info["data_path"].format(
            chunk_index=episode["data/chunk_index"], file_index=episode["data/file_index"]
        )
        index = episode["episode_index"]
        table = layout.read_table(path, filters=[("episode_index", "=", index)])
        if table.num_rows != episode["length"]:
            raise LeRobotError(
                f"{path}: {table.num_rows} rows of episode {index}, expected {episode['length']}"
            )
        columns = {name: _values(table[name]) for name in table.column_names}
        if layout.FRESH in self.features:
            own = [self.features[layout.FRESH]["names"].index(name) for name in streams]
            for name in (layout.STREAM_STAMP, layout.FRESH, layout.REPEATED):
                columns[name] = columns[name].reshape(table.num_rows, -1)[:, own]
        return columns

    def _rows(
        self, episode: dict, columns: dict[str, np.ndarray], progress: Callable[[int], None]
    ) -> Iterator[Row]:
        T, fps = episode["length"], self.info["fps"]
        videos = {name: self._frames(episode, key) for name, key in self.cameras.items()}
        rows = _numbers(columns, T, fps, len(self.cameras) + 2)
        for t in range(T):
            images = {name: next(frames) for name, frames in videos.items()}
            yield Row(images=images, **{name: values[t] for name, values in rows.items()})
            progress(1)

    def _frames(self, episode: dict, key: str) -> Iterator[np.ndarray]:
        where = {name: episode[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = self.folder / self.info["video_path"].format(video_key=key, **where)
        start_s = episode[f"videos/{key}/from_timestamp"]
        try:
            yield from read_frames(path, start_s, episode["length"], self.info["fps"])
        except (OSError, ValueError) as error:  # PyAV's errors are among them
            raise LeRobotError(f"{path}: {error}") from error


def _numbers(columns: dict[str, np.ndarray], T: int, fps: float, streams: int) -> dict:
    """The fields of `Row`, images aside, for all rows; what a foreign data set lacks is not made up but NaN."""
    stamps = columns.get(layout.STAMP, np.round(np.arange(T) * 1e9 / fps).astype(np.int64))
    state, action = columns[layout.STATE], columns[layout.ACTION]
    unknown = np.full(state.shape, np.nan, np.float32)
    sources = columns.get(layout.SOURCE, np.full(T, COMMAND_SOURCES["other"]))
    texts = columns.get(layout.INTERVENTIONS, repeat("", T))
    return {
        "stamp_ns": [int(stamp) for stamp in stamps],
        "qpos": state,
        "qvel": columns.get(layout.VELOCITY, unknown),
        "effort": columns.get(layout.EFFORT, unknown),
        "action": action,
        "command": columns.get(layout.COMMAND, action),
        "stream_stamps_ns": columns.get(layout.STREAM_STAMP, np.repeat(stamps[:, None], streams, axis=1)),
        "fresh": columns.get(layout.FRESH, np.ones((T, streams), bool)),
        "repeated": columns.get(layout.REPEATED, np.zeros((T, streams), bool)),
        "command_source": [_SOURCE_NAMES.get(int(code), "other") for code in sources],
        "interventions": [text.split("; ") if text else [] for text in texts],
        "substep": [str(text) for text in columns.get(layout.SUBSTEP, repeat("", T))],
        "leader": columns.get(layout.LEADER, [None] * T),
    }


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """A column as (T,) or (T, width)."""
    if not pa.types.is_list(column.type) and not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy()
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)
