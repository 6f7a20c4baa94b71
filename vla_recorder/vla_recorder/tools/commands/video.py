"""`episode video`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.command import Command, add_files, for_each
from vla_recorder.tools.files import find, targets


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser)
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where the videos go (default: beside each episode)"
    )
    parser.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="0.1..2",
        help="size of the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="pictures only: no camera names, row, time and instruction on them",
    )


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 2.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0.1 to 2, got '{text}'")
    return value


def _run(options: argparse.Namespace) -> int:
    from vla_recorder.tools.video import write_video  # PyAV and matplotlib take a second to import

    made = targets(
        find(options.files), lambda path: (options.to or path.parent) / f"{path.name.split('.')[0]}.mp4"
    )

    def one(path: Path) -> None:
        with EpisodeReader(path) as episode:
            write_video(episode, made[path], options.scale, overlay=not options.plain)
        print(f"{path} -> {made[path]}: {made[path].stat().st_size / 1e6:.1f} MB", flush=True)

    return for_each(made, one)


COMMAND = Command(
    "video",
    "write an mp4 of all cameras side by side, at the times of the recording",
    _arguments,
    _run,
    """
  episode video episodes/episode_0.hdf5
  episode video episodes/ --to videos --scale 0.5
""",
)
