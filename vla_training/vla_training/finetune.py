"""Fine-tune a policy on recorded episodes: `finetune EPISODES --output CHECKPOINT`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import signal
import sys
from pathlib import Path

import torch

from vla_model.normalize import StatisticsError
from vla_model.policy import Policy
from vla_training.cache import ImageCache
from vla_training.dataset import ChunkDataset
from vla_training.episodes import SHIFTS, EpisodeSet, TrainingError, find_episodes, read_episodes
from vla_training.frozen import FrozenFeatures, fits
from vla_training.output import check_output, save
from vla_training.start import SIZES, fitted_policy, freeze, fresh_policy
from vla_training.train import Settings, train

EPILOG = """examples:
  finetune episodes/ --output checkpoints/cube                        a fresh small model, on the CPU or the GPU
  finetune episodes/ --output checkpoints/cube --max-minutes 1        ... for one minute
  finetune episodes/ --output checkpoints/cube --init released/       from a released checkpoint, fitted to this rig
  finetune episodes/ --output try --model llm.layers=3 --model vision.image_size=84
"""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return run(options)
    except (TrainingError, StatisticsError) as error:
        print(f"finetune: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Everything from episodes to checkpoint; returns the exit code. TrainingError."""
    check_output(options.output, options.overwrite)
    if options.threads:
        torch.set_num_threads(options.threads)
    files = find_episodes(options.episodes)
    data = _with_rig(read_episodes(files, options.cameras, options.shift), options.rig)
    policy = _policy(data, options)
    freeze(policy.model, options.freeze)
    images = ImageCache(data, policy.model.preprocess, options.cache or files[0].parent / "cache")
    items = ChunkDataset(
        data, images, policy.checkpoint.tokenizer, policy.state_normalizer, policy.action_normalizer, policy.horizon
    )  # fmt: skip
    _say(data, items, policy)
    settings = _settings(options)
    with Interrupt() as interrupt:
        frozen = None
        if options.freeze == "backbone" and not settings.augment and fits(policy.model, items):
            frozen = FrozenFeatures(policy.model, items)
        result = train(policy.model, items, settings, interrupt.asked, frozen)
        if not result.losses:
            raise TrainingError("not one step fitted into --max-minutes; nothing is saved")
        save(options.output, policy, result, settings)
    tail = result.losses[-max(1, len(result.losses) // 20) :]
    ended = "interrupted" if result.interrupted else "done"
    print(
        f"{ended}: {len(result.losses)} steps in {result.seconds:.0f} s, loss {result.losses[0]:.4f} -> {sum(tail) / len(tail):.4f}"
    )
    print(f"run it: vla up aloha sim:=true checkpoint:={options.output}")
    return 130 if result.interrupted else 0


class Interrupt:
    """While active, the first Ctrl-C asks training to end and save; the second one ends the process as usual."""

    def __enter__(self) -> Interrupt:
        self._asked = False
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_exception) -> None:
        signal.signal(signal.SIGINT, self._before)

    def asked(self) -> bool:
        return self._asked

    def _ask(self, *_signal) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, self._before)
        print("\nstopping after this step, then saving; Ctrl-C again to lose it", file=sys.stderr)


def _policy(data: EpisodeSet, options: argparse.Namespace) -> Policy:
    if options.init is None:
        return fresh_policy(
            data, options.size, options.horizon or 50, options.model, options.seed, options.device
        )
    if options.model:
        raise TrainingError("--model shapes a fresh model; with --init the checkpoint's shape stands")
    policy, fresh = fitted_policy(data, options.init, options.horizon, options.seed, options.device)
    if fresh:
        print(
            f"the checkpoint does not fit this rig in {len(fresh)} weights, which start at random: {', '.join(fresh)}"
        )
    return policy


def _with_rig(data: EpisodeSet, rig_file: str | None) -> EpisodeSet:
    """Plain ACT files know no rig: take it from --rig."""
    source = data.source
    if source.rig_text is not None:
        if rig_file:
            raise TrainingError(
                "--rig is for plain ACT files; these episodes carry the rig they were recorded with"
            )
        return data
    if rig_file is None:
        raise TrainingError(
            f"{data.episodes[0].path}: a plain ACT file without a rig; say which with --rig (e.g. aloha)"
        )
    from vla_rig.rig_file import RigError, load_rig

    try:
        rig = load_rig(rig_file)
    except RigError as error:
        raise TrainingError(str(error)) from error
    for what, have, want in (
        ("state", source.state_names, rig.state_names),
        ("action", source.action_names, rig.action_names),
    ):
        if len(have) != len(want):
            raise TrainingError(
                f"{data.episodes[0].path}: {len(have)} {what} channels, rig {rig.name} has {len(want)}"
            )
    known = dataclasses.replace(
        source, state_names=tuple(rig.state_names), action_names=tuple(rig.action_names),
        rate_hz=rig.control_rate_hz, rig_text=rig.to_yaml(),
    )  # fmt: skip
    return dataclasses.replace(data, source=known)


def _say(data: EpisodeSet, items: ChunkDataset, policy: Policy) -> None:
    count = sum(weight.numel() for weight in policy.model.parameters() if weight.requires_grad)
    print(
        f"{len(data.episodes)} episodes, {data.rows} rows at {data.source.rate_hz:g} Hz, cameras "
        f"{', '.join(data.source.camera_names)}; {len(items)} items, {data.left_out} rows left out as stale or not finite"
    )
    if data.shifted:
        print(
            f"{data.shifted} episodes say sim=False: their actions are read one row earlier, as ACT does (--shift)"
        )
    print(
        f"{count / 1e6:.2f} M weights to train, chunks of {policy.horizon} actions, on {policy.model.device}"
    )


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "finetune", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("episodes", type=Path, help="folder of episode_*.hdf5, or one such file")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace --output when it exists")
    _add_model(parser.add_argument_group("model"))
    _add_data(parser.add_argument_group("data"))
    _add_training(parser.add_argument_group("training"))
    return parser


def _add_model(group) -> None:
    group.add_argument("--init", type=Path, help="checkpoint to start from; default: random weights")
    group.add_argument(
        "--size", choices=SIZES, default="small", help="fresh model: small runs on a CPU (default)"
    )
    group.add_argument("--model", action="append", default=[], metavar="KEY=VALUE",
                       help="fresh model: change a setting of its config, e.g. llm.layers=3; repeatable")  # fmt: skip
    group.add_argument("--horizon", type=_count, help="actions in a chunk; default: 50, or the checkpoint's")
    group.add_argument("--freeze", choices=("none", "vision", "backbone"), default="none",
                       help="keep the vision towers, or all but head and action queries, as they are")  # fmt: skip


def _add_data(group) -> None:
    group.add_argument("--cameras", nargs="+", help="cameras to use, in this order; default: all")
    group.add_argument("--rig", help="rig file or name, for plain ACT files, which carry none")
    group.add_argument("--shift", choices=SHIFTS, default="auto",
                       help="act: pair row t with actions from row t-1 on when the file says sim=False, as ACT's loaders do; "
                       "auto: that for plain ACT files alone; none: never")  # fmt: skip
    group.add_argument(
        "--cache", type=Path, help="folder for resized images; default: cache/ beside the episodes"
    )
    group.add_argument("--augment", action=argparse.BooleanOptionalAction, default=True,
                       help="shift images and change their brightness and contrast at random")  # fmt: skip
    group.add_argument("--state-noise", type=_share, default=0.0, metavar="STD",
                       help="noise on the normalised state; small values make a policy recover from its own errors")  # fmt: skip


def _add_training(group) -> None:
    default = Settings()
    group.add_argument(
        "--steps", type=_count, default=default.steps, help="optimiser steps (default: %(default)s)"
    )
    group.add_argument("--max-minutes", type=_positive, default=math.inf,
                       help="end after this time at the latest; the learning rate's schedule then ends with it")  # fmt: skip
    group.add_argument(
        "--batch", type=_count, default=default.batch, help="items per step (default: %(default)s)"
    )
    group.add_argument("--accumulate", type=_count, default=1, help="batches per step (default: 1)")
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
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s"
    )
    group.add_argument("--threads", type=_count, help="CPU threads; default: torch's choice")
    group.add_argument("--workers", type=int, default=0, help="processes that read images ahead (default: 0)")


def _count(text: str) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
