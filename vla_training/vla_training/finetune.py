"""Fine-tune a policy on recorded episodes: `finetune EPISODES --output CHECKPOINT`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
from statistics import fmean

import torch

from vla_model.normalize import StatisticsError
from vla_model.policy import Policy
from vla_model.weights import some
from vla_training.cache import ImageCache
from vla_training.dataset import ChunkDataset
from vla_training.episodes import EpisodeSet, TrainingError, find_episodes, read_episodes
from vla_training.frozen import FrozenChunks, fits
from vla_training.options import parser
from vla_training.output import check_output, save
from vla_training.start import fitted_policy, freeze, fresh_policy
from vla_training.train import Result, Settings, train


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
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
        if options.freeze == "backbone" and not settings.augment and fits(policy.model, items):
            items = FrozenChunks(policy.model, items)
        result = train(policy.model, items, settings, interrupt.asked)
        if not result.losses:
            raise TrainingError("not one step fitted into --max-minutes; nothing is saved")
        save(options.output, policy, result, settings)
    _conclude(result)
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
        # Not print: the signal may have come while the progress bar was writing to the same stream.
        os.write(2, b"\nstopping after this step, then saving; Ctrl-C again to lose it\n")


def _policy(data: EpisodeSet, options: argparse.Namespace) -> Policy:
    if options.init is None:
        return fresh_policy(
            data, options.size, options.horizon or 50, options.model, options.seed, options.device
        )
    policy, fresh = fitted_policy(
        data, options.init, options.horizon, options.model, options.seed, options.device
    )
    if fresh:
        print(f"the checkpoint does not fit in {len(fresh)} weights, which start at random: {some(fresh)}")
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
    cameras = ", ".join(data.source.camera_names)
    print(f"{len(data.episodes)} episodes, {data.rows} rows at {data.source.rate_hz:g} Hz, cameras {cameras}")
    print(f"{len(items)} items; {data.left_out} rows left out as stale or not finite")
    if data.shifted:
        print(
            f"{data.shifted} episodes say sim=False: their actions are read one row earlier, as ACT does (--shift)"
        )
    print(
        f"{count / 1e6:.2f} M weights to train, chunks of {policy.horizon} actions, on {policy.model.device}"
    )


def _conclude(result: Result) -> None:
    last = max(1, len(result.losses) // 20)
    ended = "interrupted" if result.interrupted else "done"
    steps = f"{len(result.losses)} steps in {result.seconds:.0f} s"
    print(f"{ended}: {steps}, loss {result.losses[0]:.4f} -> {fmean(result.losses[-last:]):.4f}")
    metrics = (f"{name} {fmean(values[-last:]):.3f}" for name, values in result.metrics.items())
    print(f"at the end: {', '.join(metrics)}")


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})


if __name__ == "__main__":
    sys.exit(main())
