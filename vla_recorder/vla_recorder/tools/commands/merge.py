"""`episode merge`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_recorder.tools.collect import merge, plan_merge
from vla_recorder.tools.command import DONE, Command, add_files
from vla_recorder.tools.files import find


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser)
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="where the episodes are collected"
    )
    parser.add_argument(
        "--copy", action="store_true", help="copy; without it files get a second name (hard link)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _run(options: argparse.Namespace) -> int:
    steps = plan_merge(find(options.files), options.to)
    for step in steps:
        print(f"{step.source} -> {step.target}", flush=True)
    how = "copied" if options.copy else "linked, or copied where the disk is another one"
    print(
        f"{len(steps)} episodes {'would be ' if options.dry_run else 'are '}{how}; the sources stay as they are"
    )
    if not options.dry_run:
        merge(steps, options.to, options.copy)
    return DONE


COMMAND = Command(
    "merge",
    "collect episodes of several folders in one, numbered without gaps",
    _arguments,
    _run,
    """
  episode merge monday/ tuesday/ --to week --dry-run
  episode merge monday/ tuesday/ --to week       # numbers go on where those of week/ end
""",
)
