"""The command line of finetune."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from vla_training.episodes import SHIFTS
from vla_training.start import SIZES
from vla_training.train import Settings

EPILOG = """examples:
  finetune episodes/ --output checkpoints/cube --init released/
      from a released checkpoint, fitted to the rig of the episodes (on a GPU); what the released folder does not
      say about itself stands in a file in it, released/vla_policy.json, such as
      {"cameras": ["head", "left_wrist"], "rate_hz": 20, "platform": "libero"}
  finetune episodes/ --output checkpoints/cube --max-minutes 1 --steps 2400 --freeze backbone --no-augment \\
      --horizon 40 --batch 8 --lr 3e-3 --warmup 50 --threads 1
      a few demonstrations by heart, in a minute on one CPU core: the head learns on the features of random towers
  finetune episodes/ --output checkpoints/arms --init released/ --model head.type=dual_arm --model action_queries=128
      a stream for each arm, 64 action queries each; which actions are the left arm's is read off the rig
  finetune episodes/ --output checkpoints/bins --init released/ --model head.type=discrete
      a distribution over 256 bins for each action, laid over the range that the episodes have
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "finetune",
        description="Fine-tune a policy on recorded episodes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("episodes", type=Path, help="folder of episode_*.hdf5, or one such file")
    top.add_argument("--output", type=Path, required=True, help="checkpoint directory to write")
    top.add_argument("--overwrite", action="store_true", help="replace --output when it exists")
    _add_model(top.add_argument_group("model"))
    _add_data(top.add_argument_group("data"))
    _add_training(top.add_argument_group("training"))
    return top


def _add_model(group) -> None:
    group.add_argument("--init", type=Path,
                       help="checkpoint to start from, ours or a released VLA-Adapter folder with a vla_policy.json "
                       "in it (see `convert --help`); default: random weights")  # fmt: skip
    group.add_argument(
        "--size", choices=SIZES, default="small", help="fresh model: small runs on a CPU (default)"
    )
    group.add_argument("--model", action="append", default=[], metavar="KEY=VALUE",
                       help="change a setting of the model's config, e.g. llm.layers=3; repeatable; weights of "
                       "--init that do not fit it start at random")  # fmt: skip
    group.add_argument("--horizon", type=count, help="actions in a chunk; default: 50, or the checkpoint's")
    group.add_argument("--freeze", choices=("none", "vision", "backbone"), default="none",
                       help="keep the vision towers, or all but the head, as they are; with --no-augment a "
                       "frozen backbone runs once per image, and training is several times faster")  # fmt: skip


def _add_data(group) -> None:
    group.add_argument("--cameras", nargs="+", help="cameras to use, in this order; default: all")
    group.add_argument("--rig", help="rig file or name, for plain ACT files, which carry none")
    group.add_argument("--shift", choices=SHIFTS, default="auto",
                       help="act: when a file says sim=False, pair row t with actions from row t-1 on, as ACT does; "
                       "auto: that for plain ACT files alone; none: never")  # fmt: skip
    group.add_argument(
        "--cache", type=Path, help="folder for resized images; default: cache/ beside the episodes"
    )
    group.add_argument("--augment", action=argparse.BooleanOptionalAction, default=True,
                       help="shift images (published models: crop them), change their brightness and contrast at "
                       "random (default: on)")  # fmt: skip
    group.add_argument("--state-noise", type=_share, default=0.0, metavar="STD",
                       help="noise on the normalised state; a policy learns from it to recover")  # fmt: skip


def _add_training(group) -> None:
    default = Settings()
    group.add_argument(
        "--steps", type=count, default=default.steps, help="optimiser steps (default: %(default)s)"
    )
    group.add_argument("--max-minutes", type=_positive, default=math.inf,
                       help="end after this time at the latest; the learning rate then falls to 0 with it")  # fmt: skip
    group.add_argument(
        "--batch", type=count, default=default.batch, help="items per step (default: %(default)s)"
    )
    group.add_argument("--accumulate", type=count, default=1, help="batches per step (default: 1)")
    group.add_argument(
        "--lr", type=_positive, default=default.lr, help="peak learning rate (default: %(default)s)"
    )
    group.add_argument(
        "--warmup", type=int, default=default.warmup, help="steps of warm-up (default: %(default)s)"
    )
    group.add_argument(
        "--weight-decay", type=_share, default=default.weight_decay, help="default: %(default)s"
    )
    group.add_argument(
        "--clip", type=_share, default=default.clip, help="gradient norm limit, 0: none (default: 1)"
    )
    group.add_argument("--seed", type=int, default=0, help="of weights, order and noise (default: 0)")
    group.add_argument(
        "--device",
        type=device,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu, cuda, cuda:1, ... (default: %(default)s)",
    )
    group.add_argument(
        "--threads",
        type=count,
        help="CPU threads (small models are fastest with 1); default: torch's choice",
    )
    group.add_argument("--workers", type=int, default=0, help="processes that read images ahead (default: 0)")


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


def device(text: str) -> str:
    try:
        wanted = torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, got {text}") from None
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"there is no {text}; CUDA devices found: {torch.cuda.device_count()}"
        )
    return text
