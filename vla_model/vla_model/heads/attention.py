"""The attention that all blocks share: what a row reads beside the task tokens, and the task tokens by a gate.

With d the width of a head, g a block's gate, [k; v] what is read beside the task tokens and [k_t; v_t] these:

    published ("logits"):  o = softmax([q k', tanh(g) q k_t'] / sqrt(d)) [v; v_t]
    sound ("output"):      o = softmax(q k' / sqrt(d)) v + tanh(g) softmax(q k_t' / sqrt(d)) v_t

With g = 0 the published form still gives every task token the logit 0 and with it a share of the softmax. In
the sound form the two softmaxes are apart, as in zero-initialised attention (LLaMA-Adapter, arXiv 2303.16199,
eq. 6), and 0 closes the branch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Condition(NamedTuple):
    """What rows attend to besides themselves: keys (turned) and values, each (B, heads, K, d)."""

    k_a: Tensor
    v_a: Tensor
    k_t: Tensor
    v_t: Tensor


def gated_attention(
    q: Tensor, own: list[tuple[Tensor, Tensor]], task: tuple[Tensor, Tensor], gate: Tensor, on_logits: bool
) -> Tensor:
    """(B, heads, T, d) for q of that shape, pairs of keys and values (B, heads, K, d), and gate = tanh(g)."""
    k, v = (torch.cat(parts, dim=-2) for parts in zip(*own, strict=True))
    k_t, v_t = task
    if on_logits:  # scaling k_t scales its logits
        k, v = torch.cat([k, gate * k_t], dim=-2), torch.cat([v, v_t], dim=-2)
        return F.scaled_dot_product_attention(q, k, v)
    out = F.scaled_dot_product_attention(q, k, v)
    return out + gate * F.scaled_dot_product_attention(q, k_t, v_t)


def split_heads(z: Tensor, heads: int) -> Tensor:
    """(..., n, D) -> (..., heads, n, d)."""
    return z.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(z: Tensor) -> Tensor:
    """(..., heads, n, d) -> (..., n, D)."""
    return z.transpose(-2, -3).flatten(-2)
