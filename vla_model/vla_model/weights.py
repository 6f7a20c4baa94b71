"""Weights on their way from files into models: checked, and placed without a detour through random ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vla_model.adapter import VLAAdapter
from vla_model.config import ModelConfig
from vla_model.files import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


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
