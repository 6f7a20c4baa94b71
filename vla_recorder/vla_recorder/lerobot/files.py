"""The growing files of a data set that is being written: rows in parquet, frames in mp4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.lerobot import layout, statistics
from vla_recorder.lerobot.layout import place
from vla_recorder.lerobot.statistics import ImageStatistics
from vla_recorder.lerobot.video import VideoWriter


class DataFiles:
    """The parquet files of rows: one row group per episode, a new file when one is large."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema, self._count = folder, schema, -1
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> DataFiles:
        return self

    def __exit__(self, *_exception) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, columns: dict[str, np.ndarray]) -> dict:
        """Write one episode; returns where it is, as meta/episodes says it."""
        if self._writer is None or self._path.stat().st_size > layout.DATA_FILE_BYTES:
            self.__exit__()
            self._count += 1
            self._path = self._folder / layout.DATA.format(**place(self._count))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="snappy")
        arrays = [_arrow(columns[field.name], field.type) for field in self._schema]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        return {f"data/{key}": value for key, value in place(self._count).items()}


class CameraFiles:
    """The videos of one camera."""

    def __init__(self, folder: Path, key: str, fps: int, codec: str) -> None:
        self.key, self.statistics = key, ImageStatistics()
        self._folder, self._fps, self._codec, self._count = folder, fps, codec, -1
        self._writer: VideoWriter | None = None

    def __enter__(self) -> CameraFiles:
        return self

    def __exit__(self, *_exception) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, episode: EpisodeReader, progress: Callable[[int], None]) -> dict:
        """Encode one episode's frames; returns where they are, as meta/episodes says it."""
        if self._writer is None or self._writer.size_bytes > layout.VIDEO_FILE_BYTES:
            self.__exit__()
            self._count += 1
            path = self._folder / layout.VIDEO.format(video_key=self.key, **place(self._count))
            self._writer = VideoWriter(path, self._fps, self._codec)
        images, begin = episode.images(self.key.removeprefix(layout.IMAGES)), self._writer.frames
        sampled, own = statistics.sampled_frames(len(episode)), ImageStatistics()
        first_camera = episode.camera_names[0] == self.key.removeprefix(layout.IMAGES)
        for t in range(len(episode)):
            image = images[t]
            self._writer.add(image)
            if t in sampled:
                own.add(image)
            progress(int(first_camera))
        self.statistics.merge(own)
        where = place(self._count) | {
            "from_timestamp": begin / self._fps,
            "to_timestamp": self._writer.frames / self._fps,
        }
        return {f"videos/{self.key}/{key}": value for key, value in where.items()} | flat(
            self.key, own.result()
        )

    def info(self, shape: list[int]) -> dict:
        height, width, channels = shape
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self._codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": channels,
            "has_audio": False,
        }


def _arrow(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(
            pa.array(values.reshape(-1), kind.value_type), kind.list_size
        )
    return pa.array(values.reshape(-1), kind)


def flat(feature: str, stats: dict[str, list]) -> dict:
    """Statistics as columns of meta/episodes."""
    return {f"stats/{feature}/{name}": value for name, value in stats.items()}
