"""What the blocks of every naive head share: rotary tables built at each call, one softmax over joined sources."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vla_model.config import HeadConfig

BASE = 10000.0


class Rope(nn.Module):
    """Tables anew at every call. `inv_freq` has the precision in which a released head held it."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("inv_freq", torch.empty(dim // 2))

    def forward(self, length: int, x: Tensor) -> tuple[Tensor, Tensor]:
        n = torch.arange(length, device=x.device, dtype=self.inv_freq.dtype)
        angles = torch.einsum("i,j->ij", n, self.inv_freq)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def inv_freq(dim: int, dtype: torch.dtype) -> Tensor:
    return (1.0 / BASE ** (torch.arange(0, dim, 2, device="cpu").float() / dim)).to(dtype)


class NaiveBlock(nn.Module):
    """Splitting into heads, rotation and attention."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.num_heads, self.mixed = config.heads, config.rotary_pairing == "mixed"
        self.gate_on_logits = config.gate_on_logits
        self.rope = Rope(width // config.heads)

    def split(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        return x.view(B, N, self.num_heads, D // self.num_heads).transpose(1, 2)

    def turned(self, q: Tensor, k: Tensor, table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Both (B, heads, N, d) by positions 0 .. N - 1."""
        cos, sin = (t.unsqueeze(0).unsqueeze(0) for t in table)
        return q * cos + self._partner(q) * sin, k * cos + self._partner(k) * sin

    def attend(self, q: Tensor, sources: list[tuple[Tensor, Tensor]], task: int, gate: Tensor) -> Tensor:
        """Joint attention (B, N, D) over sources (k, v) in order; the gate acts on the source number `task`."""
        if self.gate_on_logits:
            o = self._softmax(q, sources, {task: gate})
        else:
            o = self._softmax(q, sources[:task] + sources[task + 1 :], {})
            o = o + gate * self._softmax(q, [sources[task]], {})
        return o.transpose(1, 2).contiguous().flatten(2)

    @staticmethod
    def _softmax(q: Tensor, sources: list[tuple[Tensor, Tensor]], gates: dict[int, Tensor]) -> Tensor:
        scores = [torch.matmul(q, k.transpose(-2, -1)) for k, _ in sources]
        for i, gate in gates.items():
            scores[i] = scores[i] * gate
        weights = torch.softmax(torch.cat(scores, dim=-1) / math.sqrt(q.shape[-1]), dim=-1)
        return torch.matmul(weights, torch.cat([v for _, v in sources], dim=2))

    def _partner(self, x: Tensor) -> Tensor:
        if self.mixed:
            return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape_as(x)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([-second, first], dim=-1)


def ffn(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
