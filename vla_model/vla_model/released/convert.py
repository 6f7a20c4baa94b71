"""Convert a released VLA-Adapter folder to ours, or one of ours to the released form."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from pydantic import ValidationError

from vla_model.files import CheckpointError, explain
from vla_model.normalize import StatisticsError
from vla_model.released.conversion import convert
from vla_model.released.options import PLATFORMS, Options

EPILOG = """examples:
  convert LIBERO-Spatial/ checkpoints/spatial --platform libero --cameras head left_wrist --rate-hz 20 --rig franka.yaml
      a released folder becomes ours; --platform stands for --horizon, --normalization and --gripper
  convert mine/ checkpoints/mine --cameras cam_high cam_left_wrist cam_right_wrist --rate-hz 50 --horizon 25 \\
      --normalization bounds --gripper none --rig aloha
  convert checkpoints/spatial released/
      and back, for the public reference's code

What --cameras to --center-crop say may also stand in a file vla_policy.json in the released folder. With that, and a
rig.yaml beside it, policies load the folder as it is, unconverted.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "convert", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("source", type=Path, help="a released folder, or one of our checkpoint directories")
    top.add_argument("target", type=Path, help="directory to write; must not exist")
    top.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="cast the weights; default: as they are"
    )
    group = top.add_argument_group("what a released folder does not say")
    text = {key: field.description.replace("%", "%%") for key, field in Options.model_fields.items()}
    group.add_argument("--cameras", nargs="+", metavar="NAME", help=text["cameras"])
    group.add_argument("--rate-hz", type=float, help=text["rate_hz"])
    group.add_argument("--platform", choices=PLATFORMS, help=text["platform"])
    group.add_argument("--horizon", type=int, help=text["horizon"])
    group.add_argument("--normalization", choices=("bounds", "bounds_q99"), help=text["normalization"])
    group.add_argument("--gripper", choices=("none", "libero", "calvin"), help=text["gripper"])
    group.add_argument("--dataset", help=text["dataset"])
    group.add_argument("--task-tokens", type=int, help=text["task_tokens"])
    group.add_argument("--center-crop", action=argparse.BooleanOptionalAction, help=text["center_crop"])
    group.add_argument("--rig", help="rig file or name of an installed one, for the policy node (e.g. aloha)")
    return top


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    given = {key: getattr(args, key) for key in Options.model_fields if getattr(args, key) is not None}
    try:
        options = Options.model_validate(given)
        dtype = getattr(torch, args.dtype) if args.dtype else None
        for line in convert(args.source, args.target, options, _rig_text(args.rig), dtype):
            print(line)
    except ValidationError as error:
        print(f"convert: {explain(error)}", file=sys.stderr)
        return 1
    except (CheckpointError, StatisticsError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.target}")
    return 0


def _rig_text(rig: str | None) -> str:
    """The rig file, resolved. CheckpointError."""
    if rig is None:
        return ""
    try:
        from vla_rig.rig_file import RigError, load_rig  # of another package, and needed for this alone
    except ImportError as error:
        raise CheckpointError(
            "--rig needs the package vla_rig; without it, put a rig.yaml into the folder"
        ) from error
    try:
        return load_rig(rig).to_yaml()
    except RigError as error:
        raise CheckpointError(f"--rig: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
