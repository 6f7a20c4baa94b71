"""A checkpoint: a model with all that belongs to it, saved as a directory (see `stored`).

Directories as VLA-Adapter releases them load as they are (see `released`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from vla_model import stored
from vla_model.adapter import VLAAdapter
from vla_model.files import CheckpointError
from vla_model.released import folder
from vla_model.released import load as released
from vla_model.released.options import Options
from vla_model.stored import FILES, Stored, check_vocabulary, existing
from vla_model.weights import blank, place

__all__ = ["FILES", "Checkpoint", "CheckpointError", "check_vocabulary", "identity", "load", "save"]


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint, model and all."""

    model: VLAAdapter
    statistics: dict
    rig_text: str
    tokenizer: Tokenizer


def save(directory: Path | str, checkpoint: Checkpoint) -> None:
    """Write the directory (made if need be). Weights go last: a directory with weights is whole."""
    model = checkpoint.model
    parts = (checkpoint.statistics, checkpoint.rig_text, checkpoint.tokenizer)
    stored.write(Path(directory), Stored(model.config, model.state_dict(), *parts))


def load(
    directory: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    options: Options | None = None,
) -> Checkpoint:
    """Read a directory; `dtype` casts the weights, None keeps them. CheckpointError names what is wrong.

    options: what a released folder does not say; in its vla_policy.json otherwise. Ours needs none.
    """
    directory = existing(Path(directory))
    read = released.read(directory, options) if folder.is_released(directory) else stored.read(directory)
    model = place(blank(read.config), read.weights, device, dtype)
    return Checkpoint(model, read.statistics, read.rig_text, read.tokenizer)


def identity(directory: Path | str) -> str:
    """Directory name and the first 12 hex digits of its weights' SHA-256."""
    directory = existing(Path(directory))
    digest = hashlib.sha256()
    for path in (
        folder.weight_files(directory) if folder.is_released(directory) else [directory / stored.WEIGHTS]
    ):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"{directory.resolve().name}-{digest.hexdigest()[:12]}"
