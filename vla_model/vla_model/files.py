"""Files of a checkpoint: each is read whole or named in an error, and written whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

# what torch.load raises for bytes that are no pickle, for a pickle of something else, and for a file cut short
_NOT_WEIGHTS = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError,
)  # fmt: skip
_LFS = b"version https://git-lfs"


class CheckpointError(ValueError):
    """A checkpoint directory is not there, not whole, does not fit its own config, or cannot be loaded here."""


def explain(error: ValidationError) -> str:
    """What is wrong with which key."""
    faults = ((".".join(map(str, f["loc"])), f["msg"].removeprefix("Value error, ")) for f in error.errors())
    return "; ".join(f"{key}: {message}" if key else message for key, message in faults)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not a text file: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> dict:
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def write_text(path: Path, text: str) -> None:
    """In UTF-8, whatever the user's locale says."""
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors mapped from the file; nothing is read until it is used."""
    _check_fetched(path)
    try:
        return _numbers(load_file(path), path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def write_safetensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """All of the file or none of it, whatever happens to the machine meanwhile. OSError."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        save_file(_contiguous(weights), partial, {"format": "pt"})
    except SafetensorError as error:  # so it calls a full disk
        raise OSError(f"{path.name}: {error}") from error
    with partial.open("rb") as file:
        os.fsync(file.fileno())  # or a power cut may leave the name and no weights
    partial.replace(path)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """A pickled state dict. Nothing but tensors is accepted, so nothing in the file can run."""
    _check_fetched(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _NOT_WEIGHTS as error:
        raise CheckpointError(
            f"{path} is not a file of plain weights, and was not run: {_reason(error)}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, expected a state dict of tensors alone"
        )
    return _numbers(dict(state), path)


def write_pickle(path: Path, weights: Mapping[str, Tensor]) -> None:
    """What `read_pickle` reads. OSError."""
    try:
        with path.open("wb") as file:
            torch.save(_contiguous(weights), file)
    except RuntimeError as error:  # so torch calls a full disk; what stopped it stands behind
        raise OSError(f"{path.name}: {error.__context__ or error}") from error


def _contiguous(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in weights.items()}


def _check_fetched(path: Path) -> None:
    """CheckpointError for what `git clone` leaves in the place of a large file."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if start == _LFS:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
        )


def _numbers(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """CheckpointError for weights that a cast would turn into nonsense."""
    wrong = sorted(name for name, value in weights.items() if not value.is_floating_point())
    if wrong:
        kind = str(weights[wrong[0]].dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{path}: {wrong[0]} is {kind}, expected floating-point numbers; quantised weights cannot be read"
        )
    return weights


def _reason(error: Exception) -> str:
    """Of all that torch says, what it met: not its advice to load the file as a program after all."""
    text = str(error).strip() or "it ends too soon"
    met = (text.partition("WeightsUnpickler error: ")[2].strip() or text).splitlines()[0]
    return f"{type(error).__name__}: {met.partition(' Please use ')[0]}"
