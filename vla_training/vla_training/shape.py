"""The shape of the model to train: a config, with settings of the command line and what they leave to the rig."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from vla_model.config import ModelConfig
from vla_training.episodes import TrainingError

# what the episodes decide, and the option that has a say in it
_OF_EPISODES = {
    "camera_names": "--cameras",
    "state_dim": None,
    "action_dim": None,
    "dt_s": None,
    "dataset": None,
}


def changed(config: ModelConfig, changes: Sequence[str], action_names: Sequence[str]) -> ModelConfig:
    """`config` with KEY=VALUE settings such as "llm.layers=3". TrainingError names the one that does not fit.

    A dual-arm head that is not told its `arm_dims`, or was told those of another rig, takes them from the names of
    the rig's action channels.
    """
    values = config.model_dump()
    for change in changes:
        _set(values, change)
    head = values["head"]
    told = any(change.startswith("head.arm_dims=") for change in changes)
    if head["type"] == "dual_arm" and not told and sum(head["arm_dims"] or ()) != len(action_names):
        head["arm_dims"] = arm_dims(action_names)
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise TrainingError(f"--model{' ' if key else ''}{key}: {fault['msg']}") from error


def arm_dims(names: Sequence[str]) -> tuple[int, int]:
    """How many action channels start with "left", and how many, after those, with "right". TrainingError."""
    left = sum(name.startswith("left") for name in names)
    if 0 < left < len(names) and all(
        name.startswith("left" if i < left else "right") for i, name in enumerate(names)
    ):
        return left, len(names) - left
    raise TrainingError(
        f"a dual-arm head needs to know its arms, and the channels' names do not tell them: {', '.join(names)}; "
        'say --model "head.arm_dims=[7,7]"'
    )


def _set(values: dict, change: str) -> None:
    key, _, text = change.partition("=")
    if key in _OF_EPISODES:
        instead = f"; use {_OF_EPISODES[key]}" if _OF_EPISODES[key] else ""
        raise TrainingError(f"--model {change}: '{key}' follows from the episodes{instead}")
    *path, last = key.split(".")
    part = values
    for name in path:
        part = part.get(name) if isinstance(part, dict) else None
    if not isinstance(part, dict) or last not in part:
        raise TrainingError(f"--model {change}: the model's config has no '{key}'; an example: llm.layers=3")
    try:
        part[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TrainingError(f"--model {change}: cannot be read: {error.problem}") from error
