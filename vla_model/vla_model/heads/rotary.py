"""Rotary positions of the Pro head, in the sound and in the published form.

theta_m = 10000^(-2m/d), m = 0 .. d/2 - 1; column j of the table uses theta_(j mod d/2) (arXiv 2104.09864, eq.
15).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

BASE = 10000.0


def rotary_table(
    positions: int, dim: int, precision: Literal["float32", "bfloat16"]
) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (positions, dim) float32.

    "bfloat16" gives the values of a head that was cast to bfloat16 as a whole, which also rounds positions
    and frequencies: bf16(cos(bf16(bf16(n) * bf16(theta)))). Above position 256 such a table knows only even
    positions.
    """
    dtype = getattr(torch, precision)
    theta = (1.0 / BASE ** (torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") / dim)).to(dtype)
    n = torch.arange(positions, dtype=torch.float32, device="cpu").to(dtype)
    angle = (n[:, None] * theta[None, :]).float()
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().to(dtype).float(), angle.sin().to(dtype).float()


class Rotary(nn.Module):
    """Turns (..., n, d) by positions 0 .. n - 1, n <= `positions`. Nothing in the state dict.

    The table stays float32 when the model is cast, and is rounded where it is used: a cast to bfloat16 and back would
    leave the sound table rounded for good.
    """

    def __init__(
        self,
        positions: int,
        dim: int,
        pairing: Literal["halves", "mixed"] = "halves",
        precision: Literal["float32", "bfloat16"] = "float32",
    ):
        super().__init__()
        cos, sin = rotary_table(positions, dim, precision)
        self.pairing = pairing
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[-2]
        cos, sin = self.cos[:n].to(z.dtype), self.sin[:n].to(z.dtype)
        return z * cos + self._partner(z) * sin

    def _partner(self, z: Tensor) -> Tensor:
        if self.pairing == "halves":
            first, second = z.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)
        # published: neighbours are paired, although the table is laid out in halves, so a pair has two angles
        return torch.stack([-z[..., 1::2], z[..., ::2]], dim=-1).flatten(-2)

    def _apply(self, fn, recurse: bool = True) -> Rotary:
        cos, sin = self.cos, self.sin
        super()._apply(fn, recurse)
        self.cos, self.sin = cos.to(self.cos.device), sin.to(self.sin.device)
        return self
