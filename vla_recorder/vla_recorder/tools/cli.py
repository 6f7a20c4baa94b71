"""`ros2 run vla_recorder episode`: look at episode files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.tools import report

EPILOG = """
examples:
  episode inspect episodes/episode_0.hdf5
  episode inspect episodes/episode_0.hdf5 --pictures /tmp/look    # contact sheet and plot as PNG
  episode validate episodes/*.hdf5 && echo ready to train
"""


def _inspect(options) -> int:
    for path in options.files:
        with EpisodeReader(path) as episode:
            summary = report.of_episode(episode)
            print(json.dumps(summary) if options.json else report.text(summary))
            if options.pictures:
                from vla_recorder.tools.pictures import save_pictures  # matplotlib takes a second to import

                for picture in save_pictures(episode, options.pictures):
                    print(f"  wrote {picture}")
    return 0


def _validate(options) -> int:
    bad = 0
    for path in options.files:
        found = problems(path)
        bad += bool(found)
        for problem in found:
            print(problem if problem.startswith(str(path)) else f"{path}: {problem}")
        if not found:
            print(f"{path}: valid")
    return 1 if bad else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="episode",
        description="Look at episode files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="say what is in each file, optionally draw it")
    inspect.add_argument("files", nargs="+", type=Path, metavar="FILE")
    inspect.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    inspect.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write a contact sheet and a plot here"
    )
    inspect.set_defaults(run=_inspect)
    validate = commands.add_parser(
        "validate", help="list what is wrong with each file; exit code 1 if anything"
    )
    validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
    validate.set_defaults(run=_validate)
    options = parser.parse_args(argv)
    try:
        return options.run(options)
    except EpisodeError as error:
        print(f"episode: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
