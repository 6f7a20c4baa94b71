"""`episode validate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from vla_recorder.episode import layout
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import find_damaged
from vla_recorder.episode.validate import problems
from vla_recorder.tools.command import DONE, FAILED, Command, add_files
from vla_recorder.tools.files import episodes_in, find
from vla_recorder.tools.progress import bar


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser)
    parser.add_argument(
        "--every-frame", action="store_true", help="read or decode every frame, not only some JPEG ones"
    )


def _run(options: argparse.Namespace) -> int:
    code, valid = DONE, []
    for path in find(options.files):
        found = _problems(path, options.every_frame)
        for problem in found:
            print(problem if problem.startswith(str(path)) else f"{path}: {problem}", flush=True)
            code = FAILED
        if not found:
            print(f"{path}: valid", flush=True)
            valid.append(path)
    for folder in (Path(argument) for argument in options.files if Path(argument).is_dir()):
        for note in _of_folder(folder):
            print(f"note: {folder}: {note}")
    for note in _differences(valid):
        print(f"note: {note}")
    return code


def _problems(path: Path, every_frame: bool) -> list[str]:
    with bar(0, path.name, "frames") as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done - progress.n)

        return problems(path, every_frame, show)


def _of_folder(folder: Path) -> Iterator[str]:
    unfinished = find_damaged(folder)
    if unfinished:
        yield f"{len(unfinished)} unfinished files are left out: see `episode recover --help`"
    numbers = [layout.index_of(path) for path in episodes_in(folder)]
    if numbers != list(range(len(numbers))):
        yield "numbers do not run from 0 without gaps, as ACT's loader wants them: see `episode renumber --help`"


def _differences(paths: list[Path]) -> Iterator[str]:
    """What a data set of these files would have to cope with, each said once, by the first file that differs."""
    said, first = set(), None
    for path in paths:
        with EpisodeReader(path) as episode:
            facts = {
                "state": episode.state_names,
                "action": episode.action_names,
                "cameras": {name: episode.images(name).shape[1:] for name in episode.camera_names},
                "rate": episode.control_rate_hz,
                "list of streams": episode.stream_names,
                "image form": episode.image_form,
                "length": len(episode),
            }
        first = first or (path, facts)
        for what in facts:
            if facts[what] != first[1][what] and what not in said:
                said.add(what)
                hint = " (ACT's loader wants one length; others do not)" if what == "length" else ""
                yield f"{path}: its {what} is not that of {first[0]}{hint}"


COMMAND = Command(
    "validate",
    "list what is wrong with each file: layout, lengths, numbers, stamps",
    _arguments,
    _run,
    """
  episode validate episodes/ && echo ready to train    # of a folder, it also notes gaps and differences
""",
)
