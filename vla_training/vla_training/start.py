"""The policy that training starts from: fresh, or a checkpoint fitted to the episodes' rig."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer

from vla_model import presets
from vla_model.adapter import VLAAdapter
from vla_model.checkpoint import Checkpoint, CheckpointError, check_vocabulary
from vla_model.config import HeadConfig, ModelConfig
from vla_model.policy import Policy, build_policy
from vla_model.tokenizer import build_tokenizer
from vla_training.episodes import EpisodeSet, TrainingError
from vla_training.shape import changed
from vla_training.statistics import dataset_statistics

SIZES = {"small": presets.small, "published": presets.published}
NO_GRIPPERS = {"gripper": "none", "gripper_dims": ()}


def fresh_policy(
    data: EpisodeSet, size: str, horizon: int, changes: Sequence[str], seed: int, device: str
) -> Policy:
    """Random weights. `changes` are KEY=VALUE settings of the ModelConfig, such as "llm.layers=3". TrainingError."""
    source = data.source
    config = SIZES[size](
        source.camera_names,
        len(source.state_names),
        len(source.action_names),
        horizon,
        1 / source.rate_hz,
        constant_state="zero",
    )
    config = changed(config, changes, source.action_names)
    tokenizer = build_tokenizer({episode.instruction for episode in data.episodes}, config.llm.vocab)
    _check_vocabulary(config, tokenizer)
    policy = build_policy(config, _statistics(data, config), source.rig_text, tokenizer, seed, device)
    return _fit_range(policy, data)


def fitted_policy(
    data: EpisodeSet, init: Path, horizon: int | None, changes: Sequence[str], seed: int, device: str
) -> tuple[Policy, list[str]]:
    """A checkpoint's weights in a model of this rig's cameras, channels and horizon, normalised by these episodes.

    Its gripper convention stays if the rigs' action channels are the same, its fixed count of task tokens if the number
    of cameras is; `changes` are as for a fresh policy, and a dual-arm head in place of another one starts in its sound
    form. Returns the policy and the names of weights that start at random because the checkpoint has none of that
    shape. TrainingError.
    """
    try:
        start = Policy.from_checkpoint(init, device, torch.float32)
    except CheckpointError as error:
        raise TrainingError(f"--init: {error}") from error
    old, source = start.checkpoint, data.source
    config = start.config.model_copy(
        update={
            "camera_names": source.camera_names,
            "state_dim": len(source.state_names),
            "action_dim": len(source.action_names),
            "horizon": horizon or start.horizon,
            "dt_s": 1 / source.rate_hz,
            "dataset": None,
            "constant_state": "zero",
            **({} if len(start.camera_names) == len(source.camera_names) else {"fixed_task_tokens": None}),
            **({} if _actions(old.rig_text) == _actions(source.rig_text) else NO_GRIPPERS),
        }
    )
    if "head.type=dual_arm" in changes and config.head.type != "dual_arm":
        config = config.model_copy(
            update={"head": HeadConfig(heads=config.head.heads), "fixed_task_tokens": None}
        )
    config = changed(config, changes, source.action_names)
    _check_vocabulary(config, old.tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VLAAdapter(config)
    weights, have = model.state_dict(), old.model.state_dict()
    fitting = {
        name: have[name] for name in weights if name in have and have[name].shape == weights[name].shape
    }
    model.load_state_dict(fitting, strict=False)
    checkpoint = Checkpoint(model.to(device), _statistics(data, config), source.rig_text, old.tokenizer)
    buffers = {name for name, _ in model.named_buffers()}
    return _fit_range(Policy(checkpoint, start.identity), data), sorted(
        weights.keys() - fitting.keys() - buffers
    )


def freeze(model: VLAAdapter, part: str) -> None:
    """Keep the vision towers, or the whole backbone, as they are."""
    kept = {
        "none": [],
        "vision": [model.backbone.dinov2, model.backbone.siglip],
        "backbone": [model.backbone],
    }
    for module in kept[part]:
        module.requires_grad_(False)


def _check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    try:
        check_vocabulary(config, tokenizer)
    except CheckpointError as error:
        raise TrainingError(f"--model llm.vocab: {error}") from error


def _fit_range(policy: Policy, data: EpisodeSet) -> Policy:
    """Tell the head the range of the actions that it is to learn, in the units it learns them in."""
    known = np.concatenate([episode.action[episode.commanded] for episode in data.episodes])
    actions = torch.from_numpy(policy.action_normalizer.normalize(known))
    policy.model.head.fit_range(actions.amin(0), actions.amax(0))
    return policy


def _statistics(data: EpisodeSet, config: ModelConfig) -> dict:
    name = (yaml.safe_load(data.source.rig_text) or {}).get("name", "episodes")
    return dataset_statistics(data, name, config.grippers)


def _actions(rig_text: str) -> list | None:
    return (yaml.safe_load(rig_text) or {}).get("action")
