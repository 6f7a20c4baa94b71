"""`episode replay observations` and `episode replay commands`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.command import DONE, FAILED, INTERRUPTED, Command
from vla_recorder.tools.files import find


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="an episode")
    parser.add_argument(
        "--rig", help="rig file: a path or an installed name (default: the one in the episode)"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="0.05..5",
        help="times the recorded speed (default: %(default)s)",
    )


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 5.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0.05 to 5, got '{text}'")
    return value


def _run(options: argparse.Namespace, what: str) -> int:
    (path,) = _one(options.file)
    from vla_recorder.tools.replay.commands import CommandReplay
    from vla_recorder.tools.replay.node import rig_of
    from vla_recorder.tools.replay.observations import ObservationReplay
    from vla_rig.nodes import run_node

    kind = {"observations": ObservationReplay, "commands": CommandReplay}[what]
    nodes = []
    with EpisodeReader(path) as episode:
        rig = rig_of(episode, options.rig)

        def make():
            nodes.append(kind(episode, rig, options.speed))
            return nodes[0]

        code = run_node(make, ["episode", *options.ros_args])
    if code or not nodes:
        return code
    return FAILED if nodes[0].failure else DONE if nodes[0].finished else INTERRUPTED


def _one(argument: Path) -> list[Path]:
    found = find([argument])
    if len(found) > 1:
        raise EpisodeError(f"{argument}: names {len(found)} episodes; give the one to replay")
    return found


COMMAND = Command(
    "replay",
    "publish an episode again: its observations, or its commands through the gate",
    commands=(
        Command(
            "observations",
            "publish camera frames and joint states on the rig's topics, to feed a policy node without a robot",
            _arguments,
            lambda options: _run(options, "observations"),
            """
  episode replay observations episodes/episode_0.hdf5
  episode replay observations episodes/episode_0.hdf5 --speed 0.5 --ros-args -r __ns:=/replayed
""",
        ),
        Command(
            "commands",
            "MOVE THE ROBOT along the recorded commands, through the gate, slowly to the first one",
            _arguments,
            lambda options: _run(options, "commands"),
            """
  episode replay commands episodes/episode_0.hdf5 --speed 0.5     # Ctrl-C stops; followers hold
  episode replay commands episodes/episode_0.hdf5 --rig aloha_sim --ros-args -p use_sim_time:=true
""",
        ),
    ),
)
