"""`episode merge`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from vla_recorder.tools.collect import Step, merge, plan_merge
from vla_recorder.tools.command import DONE, Command, add_files, count
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
    files = find(options.files)
    steps = plan_merge(files, options.to)
    if options.dry_run:
        for step in steps:
            _say(step)
    else:
        merge(steps, options.to, options.copy, _say)
    would = "would be " if options.dry_run else ""
    how = "copied" if options.copy else "linked, or copied where the disk is another one"
    there = f"; {len(files) - len(steps)} are there already" if len(steps) < len(files) else ""
    print(f"{count(steps)} {would}{how}{there}; the sources stay as they are")
    return DONE


def _say(step: Step) -> None:
    tqdm.write(f"{step.source} -> {step.target}", file=sys.stdout)


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
