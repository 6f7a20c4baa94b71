"""Where everything lies in a LeRobot data set, format v3.0 (github.com/huggingface/lerobot, datasets/utils.py).

    meta/info.json                                    features, totals, path templates
    meta/stats.json                                   per feature: min, max, mean, std, count, quantiles
    meta/tasks.parquet                                task text (index of a pandas frame) -> task_index
    meta/episodes/chunk-000/file-000.parquet          one row per episode: where its rows and frames are
    data/chunk-000/file-000.parquet                   one row group per episode, one row per frame
    videos/<feature>/chunk-000/file-000.mp4           frames of many episodes, one after the other
    meta/vla.json                                     ours: what an episode file knows besides

`timestamp` is frame_index / fps; a frame's time in its video is the episode's from_timestamp + timestamp. The true
stamps are `vla.stamp_ns`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vla_recorder.episode.layout import EpisodeError

VERSION = "v3.0"
CHUNK_FILES = 1000  # files per chunk folder
DATA_FILE_BYTES = 100 << 20  # a new file begins after this
VIDEO_FILE_BYTES = 200 << 20

INFO, STATS, TASKS, OURS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/vla.json"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

STATE, ACTION = "observation.state", "action"
VELOCITY, EFFORT = "observation.velocity", "observation.effort"
IMAGES = "observation.images."

# ours, ignored by LeRobot's policies
STAMP, COMMAND, SOURCE = "vla.stamp_ns", "vla.command", "vla.command_source"
STREAM_STAMP, FRESH, REPEATED = "vla.stream_stamp_ns", "vla.fresh", "vla.repeated"
LEADER, SUBSTEP, INTERVENTIONS = "vla.leader", "vla.substep", "vla.interventions"

INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_ARROW = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_(), "string": pa.string()}


class LeRobotError(EpisodeError):
    """A data set cannot be written or read; the text names the file or feature and what was expected."""


def place(count: int) -> dict[str, int]:
    """Chunk and file index of the count-th file."""
    return {"chunk_index": count // CHUNK_FILES, "file_index": count % CHUNK_FILES}


def dtype(feature: str) -> str:
    """As LeRobot names it, of a feature that `export` writes, images aside."""
    if feature in (SUBSTEP, INTERVENTIONS):
        return "string"
    if feature in (STAMP, SOURCE, STREAM_STAMP):
        return "int64"
    return "bool" if feature in (FRESH, REPEATED) else "float32"


def vector(width: int, names: list[str] | None, dtype: str = "float32") -> dict:
    return {"dtype": dtype, "shape": [width], "names": names}


def index_features() -> dict[str, dict]:
    """The features every data set has."""
    return {name: vector(1, None, "float32" if name == "timestamp" else "int64") for name in INDEX}


def arrow_schema(features: dict[str, dict]) -> pa.Schema:
    """Columns of a data file; videos have none."""
    fields = []
    for name, feature in features.items():
        if feature["dtype"] == "video":
            continue
        value, (width,) = _ARROW[feature["dtype"]], feature["shape"]
        fields.append(pa.field(name, value if width == 1 else pa.list_(value, width)))
    return pa.schema(fields)


def write_texts(path: Path, texts: list[str], column: str) -> None:
    """tasks.parquet: the texts are the index of a pandas frame, in the order of their numbers.

    Readers use pandas and look texts up by index, so the file says in pandas' own metadata which column that is.
    """
    index = "__index_level_0__"
    columns = [
        {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, field, kind, numpy in (
            (column, column, "int64", "int64"),
            (None, index, "unicode", "object"),
        )
    ]
    pandas = {"index_columns": [index], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pa.table({column: pa.array(range(len(texts)), pa.int64()), index: pa.array(texts, pa.string())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def read_table(path: Path, **how) -> pa.Table:
    """`pq.read_table`, with errors that name the file: LeRobotError."""
    try:
        return pq.read_table(path, **how)
    except FileNotFoundError:
        raise LeRobotError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise LeRobotError(f"{path}: cannot be read: {error}") from error


def read_json(path: Path) -> dict:
    """Raises LeRobotError."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LeRobotError(f"{path}: cannot be read: {error}") from error


def read_texts(path: Path, column: str) -> dict[int, str]:
    """Number -> text of a tasks.parquet."""
    table = read_table(path)
    names = [name for name in table.column_names if name != column]
    if column not in table.column_names or len(names) != 1:
        raise LeRobotError(
            f"{path}: expected the column {column} and a text index, found {table.column_names}"
        )
    return dict(zip(table[column].to_pylist(), table[names[0]].to_pylist(), strict=True))
