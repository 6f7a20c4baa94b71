"""Bridge Attention: the blocks of the single-arm heads (arXiv 2509.09372; reference: MLPResNetBlock and
MLPResNetBlock_Pro).

A block takes chunk rows x (B, T, D), task tokens h_t (B, K_t, D) and a = [query tokens; state token] (B, K_a, D).

    o = gated attention (attention.py) of q over x and a, and over h_t by the gate
    x <- ReLU(W_f LN(W_o o + b_o + x) + b_f)

Pro: k and v have their own projections for each of x, a, h_t; q and every k are turned by their rotary position,
which starts at 0 in each source. Base: one projection of k and one of v for all three, no positions: without a
step embedding nothing tells one row of a chunk from another, and all come out equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vla_model.config import HeadConfig
from vla_model.heads.attention import Condition, gated_attention, merge_heads, split_heads
from vla_model.heads.rotary import Rotary


class BridgeBlock(nn.Module, ABC):
    """What both forms share. Parameter names are the reference's, so that released heads load."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.heads = config.heads
        self.gate_on_logits = config.gate_on_logits
        self.q_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
        self.gating_factor = nn.Parameter(torch.full((1,), config.gate_init))

    @abstractmethod
    def condition(self, h_t: Tensor, a: Tensor, rotary: Rotary) -> Condition:
        """Keys and values of task tokens h_t (B, K_t, D) and of a (B, K_a, D). Independent of x."""

    @abstractmethod
    def own(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B, T, D), each (B, heads, T, d)."""

    def forward(self, x: Tensor, condition: Condition, rotary: Rotary) -> Tensor:
        q, k_s, v_s = self.own(x, rotary)
        c, gate = condition, torch.tanh(self.gating_factor)
        o = gated_attention(q, [(k_s, v_s), (c.k_a, c.v_a)], (c.k_t, c.v_t), gate, self.gate_on_logits)
        return self.ffn(self.o_proj(merge_heads(o)) + x)

    def _split(self, z: Tensor) -> Tensor:
        return split_heads(z, self.heads)


class ProBlock(BridgeBlock):
    """Own projections per source, rotary positions."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__(width, config)
        self.k_self, self.v_self = nn.Linear(width, width), nn.Linear(width, width)
        self.k_adapter, self.v_adapter = nn.Linear(width, width), nn.Linear(width, width)
        self.k_task, self.v_task = nn.Linear(width, width), nn.Linear(width, width)
        if config.film:
            self.film_gen = nn.Sequential(nn.Linear(width, 2 * width)).requires_grad_(False)

    def condition(self, h_t: Tensor, a: Tensor, rotary: Rotary) -> Condition:
        return Condition(
            k_a=rotary(self._split(self.k_adapter(a))),
            v_a=self._split(self.v_adapter(a)),
            k_t=rotary(self._split(self.k_task(h_t))),
            v_t=self._split(self.v_task(h_t)),
        )

    def own(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        q, k = rotary(self._split(self.q_proj(x))), rotary(self._split(self.k_self(x)))
        return q, k, self._split(self.v_self(x))


class BaseBlock(BridgeBlock):
    """One projection of keys and one of values for all sources, no positions."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__(width, config)
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)

    def condition(self, h_t: Tensor, a: Tensor, rotary: Rotary) -> Condition:
        return Condition(*self._keys_values(a), *self._keys_values(h_t))

    def own(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        return self._split(self.q_proj(x)), *self._keys_values(x)

    def _keys_values(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.k_proj(z)), self._split(self.v_proj(z))
