"""Rotary positions on halves. Equals heads.rotary.Rotary, in both pairings, and Qwen2's own.

The published pairing turns neighbours (2k, 2k + 1). With every head's even dimensions first and its odd ones after
them it turns halves like any other: the rows of the maps that make q and k are put in that order, and the table's
columns with them; products of q and k do not mind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_model.config import LLMConfig
from vla_model.heads.rotary import Rotary

Table = tuple[Tensor, Tensor]  # cosines and sines, each (positions, 2, d/2)


def turn(z: Tensor, table: Table, out: Tensor) -> Tensor:
    """Turn z (..., 2, d/2) into `out` of the same shape; the table's parts must broadcast to it.

    [a, b] -> [a cos_1 - b sin_1, b cos_2 + a sin_2]
    """
    cos, sin = table
    torch.mul(z, cos, out=out)
    return add_partner(z, sin, out)


def add_partner(z: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """The second half of `turn`: what the other half of each head adds to `out`."""
    (first, second), (sin_1, sin_2) = z.unbind(-2), sin.unbind(-2)
    out.select(-2, 0).addcmul_(second, sin_1, value=-1)
    out.select(-2, 1).addcmul_(first, sin_2)
    return out


def halves(heads: int, d: int, pairing: str, device: torch.device) -> Tensor:
    """Row index (heads d,) that puts each head's dimensions into halves that turn together."""
    order = torch.arange(d, device=device)
    if pairing == "mixed":
        order = torch.cat([order[0::2], order[1::2]])
    return (torch.arange(heads, device=device)[:, None] * d + order).flatten()


def head_table(rotary: Rotary, device: torch.device) -> Table:
    """The table of a head's rotary positions, in halves."""
    order = halves(1, rotary.cos.shape[1], rotary.pairing, device)
    cos, sin = (t.to(device)[:, order].unflatten(1, (2, -1)) for t in (rotary.cos, rotary.sin))
    return cos, sin


def language_table(llm: LLMConfig, positions: int, device: torch.device, dtype: torch.dtype) -> Table:
    """Of Qwen2: float32 angles n theta^(-2m/d), then rounded."""
    d = llm.width // llm.heads
    frequency = 1.0 / llm.rope_theta ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
    angle = torch.outer(torch.arange(positions, dtype=torch.float32), frequency)
    angle = angle.unsqueeze(1).expand(-1, 2, -1)
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)
