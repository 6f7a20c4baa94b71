"""A checkpoint as it lies on disk, its model not built: our directory form, and what it has in common with others.

config.json              everything needed to build the model
model.safetensors        all weights
dataset_statistics.json  what normalises states and actions
rig.yaml                 the rig file the model was trained on, resolved
tokenizer.json           the prompt's tokenizer
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError
from tokenizers import Tokenizer
from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.files import (
    CheckpointError,
    explain,
    read_json,
    read_safetensors,
    read_text,
    write_json,
    write_safetensors,
    write_text,
)
from vla_model.tokenizer import load_tokenizer
from vla_model.weights import check, model_shapes, shapes

CONFIG, WEIGHTS, STATISTICS, RIG, TOKENIZER = FILES = (
    "config.json",
    "model.safetensors",
    "dataset_statistics.json",
    "rig.yaml",
    "tokenizer.json",
)


@dataclass(frozen=True)
class Stored:
    """`weights` are the model's state dict, mapped from their file as long as nobody needs them."""

    config: ModelConfig
    weights: dict[str, Tensor]
    statistics: dict
    rig_text: str
    tokenizer: Tokenizer


def write(directory: Path, stored: Stored) -> None:
    """Write the directory (made if need be). Weights go last: a directory with weights is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / CONFIG, stored.config.model_dump_json(indent=2) + "\n")
    write_json(directory / STATISTICS, stored.statistics)
    write_text(directory / RIG, stored.rig_text)
    stored.tokenizer.save(str(directory / TOKENIZER))
    write_safetensors(directory / WEIGHTS, stored.weights)


def read(directory: Path) -> Stored:
    """Read and check a directory. CheckpointError names the file, and the key or weight, that is wrong."""
    _check_files(directory)
    config = _config(directory / CONFIG)
    weights = read_safetensors(directory / WEIGHTS)
    check(model_shapes(config), shapes(weights), directory / WEIGHTS)
    tokenizer = load_tokenizer(directory)
    check_vocabulary(config, tokenizer)
    statistics, rig_text = read_json(directory / STATISTICS), read_text(directory / RIG)
    check_rig(config, rig_text, directory / RIG)
    return Stored(config, weights, statistics, rig_text, tokenizer)


def existing(directory: Path) -> Path:
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise CheckpointError(f"checkpoint directory {directory} {what}")
    return directory


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """CheckpointError when the tokenizer has ids that the language model has no embedding for."""
    size = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if size > config.llm.vocab:
        raise CheckpointError(f"the tokenizer has {size} tokens, the language model only {config.llm.vocab}")


def check_rig(config: ModelConfig, rig_text: str, source: Path | str) -> None:
    """CheckpointError when the rig file has other numbers of channels than the model."""
    try:
        rig = yaml.safe_load(rig_text)
    except yaml.YAMLError as error:
        raise CheckpointError(f"{source} is not valid YAML: {error}") from error
    for kind, dim in (("state", config.state_dim), ("action", config.action_dim)):
        channels = rig.get(kind) if isinstance(rig, dict) else None
        if isinstance(channels, list) and len(channels) != dim:
            raise CheckpointError(
                f"{source} does not fit the model: it has {len(channels)} {kind} channels, the model {dim}"
            )


def _check_files(directory: Path) -> None:
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise CheckpointError(
            f"checkpoint {directory} lacks {', '.join(missing)}; expected: {', '.join(FILES)}"
        )


def _config(path: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(read_json(path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {explain(error)}") from error
