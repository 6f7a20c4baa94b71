"""Episodes -> a LeRobot data set, format v3.0. One episode is open at a time, and one frame of each camera is held."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.lerobot import features as contents
from vla_recorder.lerobot import layout, statistics
from vla_recorder.lerobot.features import Facts
from vla_recorder.lerobot.files import CameraFiles, DataFiles, flat
from vla_recorder.lerobot.layout import LeRobotError, place
from vla_recorder.tools.whole import new_folder


def export(
    paths: Sequence[Path],
    target: Path,
    codec: str = "h264",
    rate_hz: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write a data set of these episodes as the folder `target`, which must not exist: whole, or not at all.

    `progress(rows)` is called as rows are written. LeRobotError or EpisodeError.
    """
    if not paths:
        raise LeRobotError("no episodes given")
    episodes = [contents.facts(path) for path in paths]
    fps = contents.rate_hz(episodes, rate_hz)
    export = Export(episodes, codec, fps)
    with new_folder(target) as folder:
        export.run(folder, progress)


class Export:
    """One run. Tables are short; videos take the time, one thread a camera."""

    def __init__(self, episodes: list[Facts], codec: str, fps: int) -> None:
        self._episodes, self._fps, self._codec = episodes, fps, codec
        self._features, self._streams = contents.features(episodes), contents.streams(episodes)
        self._tasks: list[str] = []
        self._rows: list[dict] = []  # of meta/episodes
        self._columns: dict[str, list[np.ndarray]] = {}  # of all rows, for their statistics
        self._schema = layout.arrow_schema(self._features | layout.index_features())

    def run(self, folder: Path, progress: Callable[[int], None]) -> None:
        """Write it into an empty folder."""
        with ExitStack() as stack:
            data = stack.enter_context(DataFiles(folder, self._schema))
            cameras = [
                stack.enter_context(CameraFiles(folder, name, self._fps, self._codec))
                for name, feature in self._features.items()
                if feature["dtype"] == "video"
            ]
            pool = stack.enter_context(ThreadPoolExecutor(max(1, len(cameras))))
            for index, facts in enumerate(self._episodes):
                with EpisodeReader(facts.path) as episode:
                    frames = pool.map(lambda camera, e=episode: camera.add(e, progress), cameras)
                    row = self._add_numbers(index, episode, data)
                    for part in frames:
                        row |= part
                if not cameras:
                    progress(facts.rows)
                self._rows.append(row)
        self._write_meta(folder, cameras)

    def _add_numbers(self, index: int, episode: EpisodeReader, data: DataFiles) -> dict:
        T, task = len(episode), episode.instruction
        start = sum(row["length"] for row in self._rows)
        if task not in self._tasks:
            self._tasks.append(task)
        columns = {n: v for n, v in contents.columns(episode, self._streams).items() if n in self._features}
        columns |= {
            "timestamp": (np.arange(T) / self._fps).astype(np.float32),
            "frame_index": np.arange(T),
            "episode_index": np.full(T, index),
            "index": np.arange(start, start + T),
            "task_index": np.full(T, self._tasks.index(task)),
        }
        row = {"episode_index": index, "tasks": [task], "length": T} | data.add(columns)
        row |= {"dataset_from_index": start, "dataset_to_index": start + T}
        for name, values in columns.items():
            if not name.startswith("vla."):
                self._columns.setdefault(name, []).append(values)
                row |= flat(name, statistics.of_vectors(values))
        return row

    def _write_meta(self, folder: Path, cameras: list[CameraFiles]) -> None:
        stats = {name: statistics.of_vectors(np.concatenate(v)) for name, v in self._columns.items()}
        stats |= {camera.key: camera.statistics.result() for camera in cameras}
        _write_json(folder / layout.STATS, stats)
        layout.write_texts(folder / layout.TASKS, self._tasks, "task_index")
        where = place(0)
        rows = [row | {f"meta/episodes/{key}": value for key, value in where.items()} for row in self._rows]
        path = folder / layout.EPISODES.format(**where)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        for camera in cameras:
            self._features[camera.key]["info"] = camera.info(self._features[camera.key]["shape"])
        _write_json(folder / layout.INFO, self._info())
        ours = [facts.besides for facts in self._episodes]
        _write_json(folder / layout.OURS, {"format": 1, "episodes": ours})

    def _info(self) -> dict:
        N = len(self._rows)
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self._episodes[0].robot,
            "total_episodes": N,
            "total_frames": sum(row["length"] for row in self._rows),
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": layout.DATA_FILE_BYTES >> 20,
            "video_files_size_in_mb": layout.VIDEO_FILE_BYTES >> 20,
            "fps": self._fps,
            "splits": {"train": f"0:{N}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO,
            "features": self._features | layout.index_features(),
        }


def _write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")
