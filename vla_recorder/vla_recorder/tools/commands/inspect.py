"""`episode inspect`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools import report
from vla_recorder.tools.command import Command, add_files, for_each
from vla_recorder.tools.files import find, targets


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="draw each episode here: what the cameras saw, how the joints moved, how the streams fared",
    )


def _run(options: argparse.Namespace) -> int:
    paths, summaries = find(options.files), []
    if options.pictures:
        targets(paths, lambda path: options.pictures / path.name.split(".")[0])
    code = for_each(paths, lambda path: summaries.append(_inspect(path, options)))
    if len(summaries) > 1 and not options.json:
        print(report.overview(summaries))
    return code


def _inspect(path: Path, options: argparse.Namespace) -> dict:
    with EpisodeReader(path) as episode:
        summary = report.of_episode(episode)
        if options.json:
            print(json.dumps(summary, ensure_ascii=False))
        else:
            print(report.text(summary))
            if summary["quality"]:
                print(report.intervals(summary["quality"]))
        if options.pictures:
            from vla_recorder.tools.pictures import save_pictures  # matplotlib takes a second to import

            for picture in save_pictures(episode, options.pictures):
                if not options.json:
                    print(f"  wrote {picture}")
    return summary


COMMAND = Command(
    "inspect",
    "say what is in each file and how good it is, optionally draw it",
    _arguments,
    _run,
    """
  episode inspect episodes/episode_0.hdf5
  episode inspect episodes/ --pictures look     # three pictures for each episode
  episode inspect episodes/ --json | jq .quality.verdict
""",
)
