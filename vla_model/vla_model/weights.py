"""Weights on their way between files and models: reading, checking, placing, without a detour through random ones."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce
from pathlib import Path
from types import MappingProxyType

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vla_model.adapter import VLAAdapter
from vla_model.config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]
# what torch.load raises for bytes that are no pickle, and for a pickle of something else
_NOT_WEIGHTS = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
)  # fmt: skip


class CheckpointError(ValueError):
    """A checkpoint directory is not there, not whole, or does not fit its own config."""


def blank(config: ModelConfig) -> VLAAdapter:
    """The model without memory for its weights (they are on the meta device), in a second at any size."""
    with _MetaWeights():
        return VLAAdapter(config)


@lru_cache(maxsize=4)
def model_shapes(config: ModelConfig) -> Shapes:
    """The state dict that a model of this config has."""
    return MappingProxyType(shapes(blank(config).state_dict()))


def place(
    model: VLAAdapter, weights: Mapping[str, Tensor], device: torch.device | str, dtype: torch.dtype | None
) -> VLAAdapter:
    """Give a blank model its weights: copies on `device` in `dtype`; None keeps the type in which they are stored.

    Buffers, such as the bins of a discrete head, keep theirs.

    Copies, because a tensor that is still mapped from its file changes, or kills the process, when someone
    writes over the file.
    """
    parameters = {name for name, _ in model.named_parameters()}
    dtype = dtype or common_dtype(value for name, value in weights.items() if name in parameters)
    placed = {
        name: value.to(device, dtype if name in parameters else None, copy=True)
        for name, value in weights.items()
    }
    # strict, and so every parameter; buffers that are not stored were made by the constructor
    model.load_state_dict(placed, assign=True)
    return model.to(device=device, dtype=dtype)


def common_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """The narrowest type that holds all tensors."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors))


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def check(expected: Shapes, found: Shapes, path: Path, optional: Iterable[str] = ()) -> None:
    """CheckpointError listing missing and unexpected names and unequal shapes, and the file."""
    wrong = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    faults = {
        "missing": sorted(expected.keys() - found.keys() - set(optional)),
        "unexpected": sorted(found.keys() - expected.keys()),
        "shape": wrong,
    }
    report = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in faults.items() if names)
    if report:
        raise CheckpointError(f"{path} does not fit its config.json: {report}")


def some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def explain(error: ValidationError) -> str:
    """What is wrong with which key."""
    faults = ((".".join(map(str, fault["loc"])) or "all of it", fault["msg"]) for fault in error.errors())
    return "; ".join(f"{key}: {message}" for key, message in faults)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not a text file: {error}") from error


def read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors mapped from the file; nothing is read until it is used."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def write_safetensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """All of the file or none of it."""
    partial = path.with_name(f"{path.name}.partial")
    save_file({name: value.contiguous() for name, value in weights.items()}, partial, {"format": "pt"})
    partial.replace(path)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """A pickled state dict. Nothing but tensors is accepted, so nothing in the file can run."""
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
    return dict(state)


def _reason(error: Exception) -> str:
    """Of all that torch says, what it met: not its advice to load the file as a program after all."""
    text = str(error).strip() or "it ends too soon"
    met = (text.partition("WeightsUnpickler error: ")[2].strip() or text).splitlines()[0]
    return f"{type(error).__name__}: {met}"


class _MetaWeights(TorchFunctionMode):
    """Puts what layers fill with random numbers on the meta device, and leaves computed buffers real.

    Unlike `torch.device("meta")`, under which the tables of rotary positions and the like would be lost. Holds
    for this thread alone.
    """

    _FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.randn)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in self._FACTORIES:
            kwargs = kwargs | {"device": "meta"}
        return function(*args, **kwargs)
