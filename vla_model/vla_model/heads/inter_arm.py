"""Inter-Arm Attention: one block of the dual-arm head (DualArmActionHead of public VLA-Adapter derivatives).

Arm s of {L, R}, the other arm o; x_s (B, T, D) its chunk rows, a_s = [its half of the query tokens; state token]
(B, K_a, D), h_t (B, K_t, D) the task tokens, all projections the arm's own:

    o_s = gated attention (attention.py) of q_s over x_s, a_s and x_o, and over h_t by the gate g of both arms
    x_s <- ReLU(W_f,s LN_s(W_o,s o_s + b_o,s + x_s) + b_f,s)

Both arms read each other as they were before the block. q, k_self and k_inter are turned by their rotary
position, the step of the chunk, which is one time for both arms; k_adap and k_task are not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_model.config import HeadConfig
from vla_model.heads.attention import Condition, gated_attention, merge_heads, split_heads
from vla_model.heads.rotary import Rotary

ARMS = ("L", "R")


class InterArmBlock(nn.Module):
    """Tensors of both arms are stacked in front, left first. Parameter names are the derivatives'."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.heads = config.heads
        self.gate_on_logits = config.gate_on_logits
        sources = ("self", "task", "adap", "inter")
        for arm in ARMS:
            names = [f"{kind}_{arm}_{source}" for source in sources for kind in "kv"]
            for name in (f"q_{arm}", *names, f"o_{arm}"):
                self.add_module(name, nn.Linear(width, width))
            self.add_module(
                f"ffn_{arm}", nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
            )
        self.gating = nn.Parameter(torch.full((1,), config.gate_init))

    def condition(self, h_t: Tensor, a: Tensor) -> Condition:
        """Keys and values, each (2, B, heads, K, d), of task tokens h_t (B, K_t, D) and of a (2, B, K_a, D).

        Independent of x. Arms share h_t but no weights, so each has keys and values of its own.
        """
        both = h_t.expand(2, *h_t.shape)
        k_a, v_a = self._split("k_{}_adap", a), self._split("v_{}_adap", a)
        return Condition(k_a, v_a, self._split("k_{}_task", both), self._split("v_{}_task", both))

    def forward(self, x: Tensor, condition: Condition, rotary: Rotary) -> Tensor:
        """Rows x (2, B, T, D) of both arms, in one pass."""
        c, other = condition, x.flip(0)
        own = (rotary(self._split("k_{}_self", x)), self._split("v_{}_self", x))
        inter = (rotary(self._split("k_{}_inter", other)), self._split("v_{}_inter", other))
        o = gated_attention(
            rotary(self._split("q_{}", x)).flatten(0, 1),
            [_flat(own), _flat((c.k_a, c.v_a)), _flat(inter)],
            _flat((c.k_t, c.v_t)),
            torch.tanh(self.gating),
            self.gate_on_logits,
        )
        y = per_arm(self, "o_{}", merge_heads(o).unflatten(0, (2, -1))) + x
        return per_arm(self, "ffn_{}", y)

    def _split(self, name: str, z: Tensor) -> Tensor:
        return split_heads(per_arm(self, name, z), self.heads)


def per_arm(module: nn.Module, name: str, z: Tensor) -> Tensor:
    """Each arm's own child of `module`, such as "q_{}", on its half of z (2, ...).

    Not one batched product: stacking the weights at every call costs more than it saves while they change.
    """
    return torch.stack([getattr(module, name.format(arm))(half) for arm, half in zip(ARMS, z, strict=True)])


def _flat(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].flatten(0, 1), pair[1].flatten(0, 1)
