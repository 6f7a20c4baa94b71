"""`ros2 run vla_recorder episode`: look at episode files, check, convert, collect and replay them."""

from __future__ import annotations

import argparse
import os
import sys

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.tools.command import EXIT_CODES, INTERRUPTED, UNUSABLE, add_commands
from vla_recorder.tools.commands import COMMANDS

EPILOG = f"""
FILE is an episode, a folder of episodes, or a pattern. Nothing is overwritten, a new file gets its final name only when
it is complete, and only `recover` and `renumber` touch the files they are given. `episode COMMAND --help` has examples.

{EXIT_CODES}
"""


def main(argv: list[str] | None = None) -> int:
    """The exit code of `episode ARGUMENTS`."""
    try:
        options = _options(sys.argv[1:] if argv is None else argv)
        return options.run(options)
    except EpisodeError as error:
        print(f"episode: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("episode: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `episode inspect ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="episode",
        description="Look at episode files, check, convert, collect and replay them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_commands(parser, COMMANDS)
    own, ros = _split(argv)
    options = parser.parse_args(own)
    options.ros_args = ros
    return options


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those of ROS from --ros-args on."""
    begin = argv.index("--ros-args") if "--ros-args" in argv else len(argv)
    return argv[:begin], argv[begin:]


if __name__ == "__main__":
    sys.exit(main())
