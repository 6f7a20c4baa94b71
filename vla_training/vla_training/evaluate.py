"""Offline evaluation: how far predicted chunks are from what was recorded, channel by channel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vla_model.checkpoint import CheckpointError
from vla_model.normalize import StatisticsError
from vla_model.policy import Observation, ObservationError, Policy
from vla_recorder.episode.reader import EpisodeReader
from vla_training.dataset import chunk, usable_rows
from vla_training.episodes import EpisodeSet, TrainingError, find_episodes, read_episodes
from vla_training.options import count, device


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors per action channel, rig units, over the same chunks."""

    names: tuple[str, ...]
    policy: np.ndarray  # (A,)
    hold: np.ndarray  # (A,) of keeping each joint where it is; NaN for a channel that the state does not have
    chunks: int


def evaluate(policy: Policy, data: EpisodeSet, stride: int = 10) -> Errors:
    """Predict at every `stride`-th usable row of every episode, from its raw images, as the policy node does."""
    rows = usable_rows(data, policy.horizon)
    source = data.source
    columns = [source.state_names.index(n) if n in source.state_names else -1 for n in source.action_names]
    total = np.zeros((2, len(source.action_names)))
    valid = chunks = 0
    with tqdm(
        total=sum(-(-int((rows[:, 0] == e).sum()) // stride) for e in range(len(data.episodes))), unit="chunk"
    ) as bar:
        for e, episode in enumerate(data.episodes):
            with EpisodeReader(episode.path) as reader:
                for row in rows[rows[:, 0] == e, 1][::stride]:
                    images = {name: reader.images(name)[row] for name in policy.camera_names}
                    seen = Observation(images, episode.state[row], episode.instruction, int(row))
                    wanted, mask = chunk(episode, row, policy.horizon)
                    total[0] += np.abs(policy.predict(seen) - wanted)[mask].sum(axis=0)
                    total[1] += np.abs(episode.state[row][columns] - wanted)[mask].sum(axis=0)
                    valid += int(mask.sum())
                    chunks += 1
                    bar.update()
    mean = total / valid
    mean[1, [c < 0 for c in columns]] = np.nan
    return Errors(source.action_names, mean[0], mean[1], chunks)


def table(errors: Errors) -> str:
    """One line per channel, and their mean."""
    wide = max(map(len, errors.names))
    lines = [
        f"{'channel':{wide}}  {'policy':>9}  {'hold':>9}   mean absolute error over {errors.chunks} chunks, rig units"
    ]
    lines += [
        f"{name:{wide}}  {p:9.5f}  {h:9.5f}"
        for name, p, h in zip(errors.names, errors.policy, errors.hold, strict=True)
    ]
    return "\n".join(
        [*lines, f"{'mean':{wide}}  {errors.policy.mean():9.5f}  {np.nanmean(errors.hold):9.5f}"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("evaluate", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="checkpoint directory, ours or a released one with vla_policy.json"
    )
    parser.add_argument("episodes", type=Path, help="folder of episodes, or one episode file")
    parser.add_argument("--stride", type=count, default=10, help="predict at every n-th row (default: 10)")
    parser.add_argument("--device", type=device, help="default: the GPU if there is one")
    options = parser.parse_args(arguments)
    try:
        policy = Policy.from_checkpoint(options.checkpoint, options.device)
        data = read_episodes(find_episodes(options.episodes), policy.camera_names)
        print(table(evaluate(policy, data, options.stride)))
    except (TrainingError, CheckpointError, StatisticsError, ObservationError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
