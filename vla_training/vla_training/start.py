"""The policy that training starts from: fresh, or a checkpoint fitted to the episodes' rig."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError

from vla_model import presets
from vla_model.adapter import VLAAdapter
from vla_model.checkpoint import Checkpoint, CheckpointError
from vla_model.config import ModelConfig
from vla_model.policy import Policy, build_policy
from vla_model.tokenizer import build_tokenizer
from vla_training.episodes import EpisodeSet, TrainingError
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
    tokenizer = build_tokenizer({episode.instruction for episode in data.episodes}, config.llm.vocab)
    config = _changed(config, changes)
    return build_policy(config, _statistics(data, config), source.rig_text, tokenizer, seed, device)


def fitted_policy(
    data: EpisodeSet, init: Path, horizon: int | None, seed: int, device: str
) -> tuple[Policy, list[str]]:
    """A checkpoint's weights in a model of this rig's cameras, channels and horizon, normalised by these episodes.

    Its gripper convention stays if the rigs' action channels are the same. Returns the policy and the names of
    weights that start at random because the checkpoint's have another shape. TrainingError.
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
            **({} if _actions(old.rig_text) == _actions(source.rig_text) else NO_GRIPPERS),
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VLAAdapter(config)
    weights, have = model.state_dict(), old.model.state_dict()
    fitting = {
        name: have[name] for name in weights if name in have and have[name].shape == weights[name].shape
    }
    model.load_state_dict(fitting, strict=False)
    checkpoint = Checkpoint(model.to(device), _statistics(data, config), source.rig_text, old.tokenizer)
    return Policy(checkpoint, start.identity), sorted(weights.keys() - fitting.keys())


def freeze(model: VLAAdapter, part: str) -> None:
    """Keep the vision towers, or the whole backbone, as they are."""
    kept = {
        "none": [],
        "vision": [model.backbone.dinov2, model.backbone.siglip],
        "backbone": [
            model.backbone.dinov2,
            model.backbone.siglip,
            model.backbone.projector,
            model.backbone.llm,
        ],
    }
    for module in kept[part]:
        module.requires_grad_(False)


def _statistics(data: EpisodeSet, config: ModelConfig) -> dict:
    name = (yaml.safe_load(data.source.rig_text) or {}).get("name", "episodes")
    return dataset_statistics(data, name, config.grippers)


def _actions(rig_text: str) -> list | None:
    return (yaml.safe_load(rig_text) or {}).get("action")


def _changed(config: ModelConfig, changes: Sequence[str]) -> ModelConfig:
    values = config.model_dump()
    for change in changes:
        key, _, text = change.partition("=")
        *path, last = key.split(".")
        part = values
        for name in path:
            part = part.get(name) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            raise TrainingError(
                f"--model {change}: the model's config has no '{key}'; an example: llm.layers=3"
            )
        part[last] = yaml.safe_load(text)
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise TrainingError(f"--model {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
