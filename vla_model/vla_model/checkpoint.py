"""A checkpoint on disk: a directory with

config.json              everything needed to build the model
model.safetensors        all weights
dataset_statistics.json  what normalises states and actions
rig.yaml                 the rig file the model was trained on, resolved
tokenizer.json           the prompt's tokenizer
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from vla_model.adapter import VLAAdapter
from vla_model.config import ModelConfig

CONFIG, WEIGHTS, STATISTICS, RIG, TOKENIZER = FILES = (
    "config.json",
    "model.safetensors",
    "dataset_statistics.json",
    "rig.yaml",
    "tokenizer.json",
)


class CheckpointError(ValueError):
    """A checkpoint directory is not there, not whole, or does not fit its own config."""


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint, model and all."""

    model: VLAAdapter
    statistics: dict
    rig_text: str
    tokenizer: Tokenizer


def save(directory: Path | str, checkpoint: Checkpoint) -> None:
    """Write the directory (made if need be). Weights go last: a directory with weights is whole."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(checkpoint.model.config.model_dump_json(indent=2) + "\n")
    (directory / STATISTICS).write_text(json.dumps(checkpoint.statistics, indent=2) + "\n")
    (directory / RIG).write_text(checkpoint.rig_text)
    checkpoint.tokenizer.save(str(directory / TOKENIZER))
    weights = {name: value.contiguous() for name, value in checkpoint.model.state_dict().items()}
    partial = directory / f"{WEIGHTS}.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(directory / WEIGHTS)


def load(
    directory: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Checkpoint:
    """Read a directory; `dtype` casts the weights, None keeps them. CheckpointError names what is wrong."""
    directory = Path(directory)
    _check_files(directory)
    config = _config(directory / CONFIG)
    weights = _weights(directory / WEIGHTS)
    model = VLAAdapter(config)
    _check_weights(model.state_dict(), weights, directory / WEIGHTS)
    model.to(_stored_dtype(weights))
    model.load_state_dict(weights)
    statistics = _json(directory / STATISTICS)
    tokenizer = _tokenizer(directory / TOKENIZER)
    check_vocabulary(config, tokenizer)
    model.to(device=device, dtype=dtype)
    return Checkpoint(model, statistics, (directory / RIG).read_text(), tokenizer)


def identity(directory: Path | str) -> str:
    """Directory name and the first 12 hex digits of the weight file's SHA-256."""
    directory = Path(directory)
    with (directory / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
    return f"{directory.resolve().name}-{digest.hexdigest()[:12]}"


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """CheckpointError when the tokenizer has ids that the language model has no embedding for."""
    size = tokenizer.get_vocab_size()
    if size > config.llm.vocab:
        raise CheckpointError(f"the tokenizer has {size} tokens, the language model only {config.llm.vocab}")


def _digest(file):
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


def _check_files(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(f"checkpoint directory {directory} does not exist")
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise CheckpointError(
            f"checkpoint {directory} lacks {', '.join(missing)}; expected: {', '.join(FILES)}"
        )


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def _config(path: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(_json(path))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'config'}: {fault['msg']}" for fault in error.errors()
        )
        raise CheckpointError(f"{path}: {faults}") from error


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text())
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{path} is not a tokenizer file: {error}") from error


def _stored_dtype(weights: dict[str, Tensor]) -> torch.dtype:
    return next(iter(weights.values())).dtype


def _check_weights(expected: dict[str, Tensor], weights: dict[str, Tensor], path: Path) -> None:
    """CheckpointError listing missing and unexpected names and unequal shapes."""
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    faults = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - expected.keys()),
        "shape": shapes,
    }
    report = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in faults.items() if names)
    if report:
        raise CheckpointError(f"{path} does not fit its config.json: {report}")


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
