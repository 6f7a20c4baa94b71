"""`episode convert to-jpeg` and `to-raw`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_recorder.episode.layout import JPEG_COLOURS
from vla_recorder.tools.command import Command, add_files, for_each
from vla_recorder.tools.files import find, targets
from vla_recorder.tools.recode import recode


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser)
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where the new files go, under the same names",
    )


def _jpeg_arguments(parser: argparse.ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument(
        "--quality",
        type=_quality,
        default=95,
        metavar="1..100",
        help="of the JPEG frames (default: %(default)s)",
    )
    parser.add_argument(
        "--colour",
        choices=JPEG_COLOURS,
        default="act",
        help="act (default): as ACT++'s loader wants it; standard: as any other viewer wants it",
    )


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100, got '{text}'")
    return int(text)


def _run(options: argparse.Namespace, form: str, **how) -> int:
    made = targets(find(options.files), lambda path: options.to / path.name)

    def one(path: Path) -> None:
        recode(path, made[path], form, **how)
        before, after = path.stat().st_size, made[path].stat().st_size
        print(f"{path} -> {made[path]}: {before / 1e6:.1f} MB -> {after / 1e6:.1f} MB", flush=True)

    return for_each(made, one)


TO_JPEG = Command(
    "to-jpeg",
    "raw frames -> JPEG, in ACT++'s padded layout; all else stays bit for bit",
    _jpeg_arguments,
    lambda options: _run(options, "jpeg", quality=options.quality, colour=options.colour),
    """
  episode convert to-jpeg episodes/ --to episodes_jpeg --quality 90
""",
)
TO_RAW = Command(
    "to-raw",
    "JPEG frames -> raw, which every loader of the ACT family reads; all else stays bit for bit",
    _arguments,
    lambda options: _run(options, "raw"),
    """
  episode convert to-raw episodes_jpeg/ --to episodes_raw
""",
)
