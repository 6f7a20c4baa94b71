"""`episode convert from-bag`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vla_recorder.episode.layout import ACTION_SOURCES, IMAGE_FORMS, LABELS, EpisodeError
from vla_recorder.tools.command import Command, for_each
from vla_recorder.tools.progress import bar


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bags", nargs="+", type=Path, metavar="BAG", help="folder of a rosbag2 recording (db3 or MCAP)"
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="where the episodes go, under free numbers"
    )
    parser.add_argument(
        "--rig", default="aloha", help="rig file: a path or the name of an installed rig (default: aloha)"
    )
    parser.add_argument("--instruction", required=True, help="what is done in the bags")
    parser.add_argument(
        "--action-from", choices=ACTION_SOURCES, default="command",
        help="what /action holds: 'command' (the topic `command` of teleop or policy) or 'leader' (the arms' joints)",
    )  # fmt: skip
    parser.add_argument("--namespace", default="", help="namespace that the rig's topics were recorded under")
    parser.add_argument(
        "--images", choices=IMAGE_FORMS, default="raw", help="form of the frames (default: raw)"
    )
    parser.add_argument("--label", choices=LABELS, default="none", help="default: none")
    parser.add_argument("--sim", action="store_true", help="the rig was simulated")


def _run(options: argparse.Namespace) -> int:
    from vla_recorder.bags.load import Options, load
    from vla_rig.rig_file import RigError, load_rig

    try:
        rig = load_rig(options.rig)
    except RigError as error:
        raise EpisodeError(str(error)) from error
    how = Options(
        options.instruction,
        options.action_from,
        options.namespace,
        options.sim,
        options.images,
        options.label,
    )

    def one(bag: Path) -> None:
        with bar(100, f"from {bag}", unit="%") as progress:
            path = load(
                bag, options.to, rig, how, _warn, lambda share: progress.update(100 * share - progress.n)
            )
        print(f"{bag} -> {path}", flush=True)

    return for_each(options.bags, one)


def _warn(text: str) -> None:
    print(f"episode: {text}", file=sys.stderr)


FROM_BAG = Command(
    "from-bag",
    "rosbag2 and MCAP recordings -> episodes, one each, aligned as the recorder aligns",
    _arguments,
    _run,
    """
  episode convert from-bag bags/run_1 --to episodes --rig aloha --instruction "hand over the cube"
  episode convert from-bag bags/* --to episodes --rig my_rig.yaml --action-from leader --instruction "sort the cups"
""",
)
