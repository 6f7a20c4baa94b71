"""Bridge Attention: one block of the VLA-Adapter Pro head (arXiv 2509.09372; reference: MLPResNetBlock_Pro).

A block takes chunk rows x (B, T, D), task tokens h_t (B, K_t, D) and a = [query tokens; state token] (B, K_a, D).
q, k_s, v_s come from x, k_a, v_a from a, k_t, v_t from h_t; q and every k are turned by their rotary position,
which starts at 0 in each source. With d the width of a head and g the block's gate:

    published ("logits"):  o = softmax([q k_s', q k_a', tanh(g) q k_t'] / sqrt(d)) [v_s; v_a; v_t]
    sound ("output"):      o = softmax([q k_s', q k_a'] / sqrt(d)) [v_s; v_a] + tanh(g) softmax(q k_t' / sqrt(d)) v_t
    x <- ReLU(W_f LN(W_o o + b_o + x) + b_f)

With g = 0 the published form still gives every task token the logit 0 and with it a share of the softmax. In
the sound form the two softmaxes are apart, as in zero-initialised attention (LLaMA-Adapter, arXiv 2303.16199,
eq. 6), and 0 closes the branch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_model.config import HeadConfig
from vla_model.heads.rotary import Rotary


class Condition(NamedTuple):
    """What x attends to besides itself: keys (turned) and values, each (B, heads, K, d). Independent of x."""

    k_a: Tensor
    v_a: Tensor
    k_t: Tensor
    v_t: Tensor


class BridgeBlock(nn.Module):
    """One block; parameter names are the reference's, so that released heads load."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.heads = config.heads
        self.gate_on_logits = config.gate_on_logits
        self.q_proj = nn.Linear(width, width)
        self.k_self, self.v_self = nn.Linear(width, width), nn.Linear(width, width)
        self.k_adapter, self.v_adapter = nn.Linear(width, width), nn.Linear(width, width)
        self.k_task, self.v_task = nn.Linear(width, width), nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
        self.gating_factor = nn.Parameter(torch.full((1,), config.gate_init))
        if config.film:
            self.film_gen = nn.Sequential(nn.Linear(width, 2 * width)).requires_grad_(False)

    def condition(self, h_t: Tensor, a: Tensor, rotary: Rotary) -> Condition:
        """Keys and values of task tokens h_t (B, K_t, D) and of a (B, K_a, D)."""
        return Condition(
            k_a=rotary(self._split(self.k_adapter(a))),
            v_a=self._split(self.v_adapter(a)),
            k_t=rotary(self._split(self.k_task(h_t))),
            v_t=self._split(self.v_task(h_t)),
        )

    def forward(self, x: Tensor, condition: Condition, rotary: Rotary) -> Tensor:
        q = rotary(self._split(self.q_proj(x)))
        k_s, v_s = rotary(self._split(self.k_self(x))), self._split(self.v_self(x))
        o = self._attend(q, k_s, v_s, condition).transpose(1, 2).flatten(2)
        return self.ffn(self.o_proj(o) + x)

    def _attend(self, q: Tensor, k_s: Tensor, v_s: Tensor, c: Condition) -> Tensor:
        gate = torch.tanh(self.gating_factor)
        if self.gate_on_logits:  # scaling k_t scales its logits
            k = torch.cat([k_s, c.k_a, gate * c.k_t], dim=2)
            return F.scaled_dot_product_attention(q, k, torch.cat([v_s, c.v_a, c.v_t], dim=2))
        k, v = torch.cat([k_s, c.k_a], dim=2), torch.cat([v_s, c.v_a], dim=2)
        own = F.scaled_dot_product_attention(q, k, v)
        return own + gate * F.scaled_dot_product_attention(q, c.k_t, c.v_t)

    def _split(self, z: Tensor) -> Tensor:
        return z.unflatten(-1, (self.heads, -1)).transpose(1, 2)
