"""`episode recover`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.recover import find_damaged, recover
from vla_recorder.tools.command import DONE, Command, for_each


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="unfinished files (*.partial), or folders that have some",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would be recovered")


def _run(options: argparse.Namespace) -> int:
    paths = [path for argument in options.paths for path in _damaged(argument)]
    if not paths:
        print("nothing to recover")
        return DONE
    if options.dry_run:
        print("\n".join(f"would recover {path}" for path in paths))
        return DONE
    return for_each(paths, _recover)


def _damaged(path: Path) -> list[Path]:
    if path.is_dir():
        return find_damaged(path)
    if not path.exists():
        raise EpisodeError(f"{path}: no such file; give an unfinished file (*.partial) or a folder")
    return [path]


def _recover(path: Path) -> None:
    done = recover(path)
    print(f"{path} -> {done.path}: {done.rows} rows{f'; {done.note}' if done.note else ''}", flush=True)


COMMAND = Command(
    "recover",
    "make whole episodes out of what a crash or a power cut left (*.partial)",
    _arguments,
    _run,
    """
  episode recover episodes/                      # every unfinished file of the folder that nobody writes
  episode recover episodes/episode_7.hdf5.partial
""",
)
