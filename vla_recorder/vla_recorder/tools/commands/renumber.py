"""`episode renumber`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_recorder.tools.collect import plan_renumber, renumber
from vla_recorder.tools.command import DONE, Command, count


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a folder of episodes that nobody records to"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be renamed")


def _run(options: argparse.Namespace) -> int:
    steps = plan_renumber(options.folder) if options.dry_run else renumber(options.folder)
    for step in steps:
        print(f"{step.source} -> {step.target.name}")
    print(f"{count(steps)} {'would be ' if options.dry_run else ''}renamed, in the same order")
    return DONE


COMMAND = Command(
    "renumber",
    "close the gaps in the numbers of a folder's episodes; the order stays",
    _arguments,
    _run,
    """
  episode renumber episodes/ --dry-run
""",
)
