"""What a sub-command of `episode` is, and how it is put on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.tools.interrupt import deferred

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = f"""exit codes:
  {DONE}  everything was done, and nothing is wrong with any file
  {FAILED}  something is wrong with at least one file (it is named); the others were done
  {UNUSABLE}  the command could not begin: an option, a missing file, a target that exists already
  {INTERRUPTED}  Ctrl-C; no half-written file has a final name"""


@dataclass(frozen=True)
class Command:
    """One sub-command, or with `commands` a group of them. Heavy imports belong into `run`."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    run: Callable[[argparse.Namespace], int] | None = None
    """Returns the exit code. An EpisodeError ends with UNUSABLE."""
    examples: str = ""
    commands: tuple[Command, ...] = ()


def add_commands(parser: argparse.ArgumentParser, commands: Iterable[Command]) -> None:
    """Sub-parsers for `commands`; `options.run(options)` runs the chosen one."""
    choices = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for command in commands:
        own = choices.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"{'examples:' if command.examples else ''}{command.examples}\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.commands:
            add_commands(own, command.commands)
        else:
            command.arguments(own)
            own.set_defaults(run=command.run)


def add_files(parser: argparse.ArgumentParser, what: str = "episode files") -> None:
    """The argument `files`, for vla_recorder.tools.files.find."""
    text = f"{what}, folders of them, or patterns such as 'day*/episode_*.hdf5'"
    parser.add_argument("files", nargs="+", metavar="FILE", help=text)


def count(episodes: Sized) -> str:
    return f"{len(episodes)} episode{'' if len(episodes) == 1 else 's'}"


def for_each(paths: Iterable[Path], act: Callable[[Path], None]) -> int:
    """act(path) for every path; one that fails is named and does not keep the others from being done.

    Ctrl-C takes effect between two paths, and where `act` moves a bar.
    """
    code = DONE
    for path in paths:
        try:
            with deferred():
                act(path)
        except EpisodeError as error:
            print(f"episode: {error}", file=sys.stderr)
            code = FAILED
    return code
