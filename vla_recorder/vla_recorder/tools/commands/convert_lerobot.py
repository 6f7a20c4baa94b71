"""`episode convert to-lerobot` and `from-lerobot`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vla_recorder.episode.layout import IMAGE_FORMS
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.command import DONE, Command, add_files, count
from vla_recorder.tools.files import find
from vla_recorder.tools.interrupt import deferred
from vla_recorder.tools.progress import bar


def _to_arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser)
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="the data set to make; must not exist"
    )
    parser.add_argument(
        "--codec", choices=("h264", "av1"), default="h264", help="of the videos; av1 is smaller and slower"
    )
    parser.add_argument("--rate-hz", type=int, help="for plain ACT files, which do not say theirs")


def _to(options: argparse.Namespace) -> int:
    from vla_recorder.lerobot.export import export

    paths = find(options.files)
    rows = 0
    for path in paths:
        with EpisodeReader(path) as episode:
            rows += len(episode)
    with deferred(), bar(rows, f"to {options.to}") as progress:
        export(paths, options.to, options.codec, options.rate_hz, progress.update)
    print(f"{count(paths)}, {rows} rows -> {options.to} (LeRobot v3.0, {options.codec})")
    return DONE


def _from_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_set", type=Path, metavar="DATASET", help="folder of a LeRobot v3.0 data set")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="where the episodes go, under free numbers"
    )
    parser.add_argument(
        "--images", choices=IMAGE_FORMS, default="raw", help="form of the frames (default: raw)"
    )
    parser.add_argument(
        "--sim", action="store_true", help="the data are simulated (when the data set does not say)"
    )


def _from(options: argparse.Namespace) -> int:
    from vla_recorder.lerobot.load import DataSet, load

    data = DataSet(options.data_set)
    with deferred(), bar(data.total_frames, f"from {options.data_set}") as progress:
        for i, path in enumerate(load(data.folder, options.to, options.images, options.sim, progress.update)):
            progress.write(f"{data.folder}: episode {i} -> {path}", file=sys.stdout)
    return DONE


TO_LEROBOT = Command(
    "to-lerobot",
    "episodes -> one LeRobot v3.0 data set, videos and all",
    _to_arguments,
    _to,
    """
  episode convert to-lerobot episodes/ --to datasets/cube
""",
)
FROM_LEROBOT = Command(
    "from-lerobot",
    "a LeRobot v3.0 data set -> episodes",
    _from_arguments,
    _from,
    """
  episode convert from-lerobot datasets/cube --to episodes_cube
""",
)
