"""Adaptive bins of the discrete head: every action dimension's range in the data, a little wider, in equal parts.

For a dimension that spans [min, max] in the data, with K bins and a margin m = 5 % (DiscreteActionHead of public
VLA-Adapter derivatives):

low = min - m (max - min),  high = max + m (max - min)
encode(x) = floor(K (x - low) / (high - low)), clamped to 0 .. K - 1
centre(k) = low + (k + 1/2) (high - low) / K

so that a value within [low, high] comes back within half a bin.
"""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 0.05
_NARROW = (
    1e-3  # range given to a dimension that is constant in the data, as a share of its magnitude (at least 1)
)


def widen(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Edges (A,) of the outermost bins for the data's range (A,)."""
    narrow = _NARROW * torch.maximum(low.abs(), high.abs()).clamp(min=1)
    spread = torch.where(high > low, high - low, narrow)
    middle = (low + high) / 2
    return middle - (0.5 + MARGIN) * spread, middle + (0.5 + MARGIN) * spread


def encode(values: Tensor, low: Tensor, high: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Bin of each value (..., A), int64, and whether the value was outside [low, high] and so clamped."""
    share = (values.float() - low) / (high - low)
    index = (share * bins).floor().clamp(0, bins - 1).long()
    return index, (share < 0) | (share > 1)


def centres(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Centres (A, bins) of all bins."""
    steps = torch.arange(bins, device=low.device, dtype=low.dtype) + 0.5
    return low[:, None] + steps * ((high - low) / bins)[:, None]
