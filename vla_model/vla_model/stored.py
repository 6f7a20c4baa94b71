"""A checkpoint as it lies on disk, its model not built: our directory form, and what it has in common with others.

config.json              everything needed to build the model
model.safetensors        all weights
dataset_statistics.json  what normalises states and actions
rig.yaml                 the rig file the model was trained on, resolved
tokenizer.json           the prompt's tokenizer
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from tokenizers import Tokenizer
from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.tokenizer import TokenizerError, load_tokenizer
from vla_model.weights import (
    CheckpointError,
    check,
    explain,
    model_shapes,
    read_json,
    read_safetensors,
    read_text,
    shapes,
    write_safetensors,
)

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
    (directory / CONFIG).write_text(stored.config.model_dump_json(indent=2) + "\n")
    (directory / STATISTICS).write_text(json.dumps(stored.statistics, indent=2) + "\n")
    (directory / RIG).write_text(stored.rig_text)
    stored.tokenizer.save(str(directory / TOKENIZER))
    write_safetensors(directory / WEIGHTS, stored.weights)


def read(directory: Path) -> Stored:
    """Read and check a directory. CheckpointError names the file, and the key or weight, that is wrong."""
    _check_files(directory)
    config = _config(directory / CONFIG)
    weights = read_safetensors(directory / WEIGHTS)
    check(model_shapes(config), shapes(weights), directory / WEIGHTS)
    tokenizer = tokenizer_of(directory)
    check_vocabulary(config, tokenizer)
    statistics = read_json(directory / STATISTICS)
    return Stored(config, weights, statistics, read_text(directory / RIG), tokenizer)


def existing(directory: Path) -> Path:
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise CheckpointError(f"checkpoint directory {directory} {what}")
    return directory


def tokenizer_of(directory: Path) -> Tokenizer:
    try:
        return load_tokenizer(directory)
    except TokenizerError as error:
        raise CheckpointError(str(error)) from error


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """CheckpointError when the tokenizer has ids that the language model has no embedding for."""
    size = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if size > config.llm.vocab:
        raise CheckpointError(f"the tokenizer has {size} tokens, the language model only {config.llm.vocab}")


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
