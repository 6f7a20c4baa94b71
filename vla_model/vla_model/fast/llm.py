"""Qwen2's blocks over one sample's sequence, every block's output written where the head reads it.

Equals the plain path's Qwen2Model: hidden[i] is the output of block i, the last one after the final norm. Folded: q,
k and v into one map, gate and up into one, RMSNorm's weights into both; residuals into the products (W x + b added
to what is there). No output matrix, no key-value cache, no embeddings among the hidden states: the head reads none.

What causality allows to keep between calls, counted for the published size with 3 cameras and a prompt of 42 tokens
(bench/roofline.py: 1.88 TFLOP in all, 0.66 of them here, in S = 873 rows):

- kept, in sequence.py: the embeddings of prompt and queries, copied only when the instruction changes.
- not kept: keys and values of the first token, which sees nothing but itself and so is a constant. 1 row of 873 is
  0.1 % of this part, and every block's attention would have to be put together from two pieces.
- not kept: the first block's q, k and v of text and queries, whose input is constant: 0.03 %.
- nothing else of the text can be: it comes after the images and sees them, so its states change with every frame.
- of the images nothing: their states depend on no text, so a new instruction would leave them valid, but every call
  brings new frames. Towers, projector and their 769 rows here are 92 % of the 1.88 TFLOP, due for every observation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2Model

from vla_model.config import LLMConfig
from vla_model.fast.folding import Affine, exact, joined
from vla_model.fast.rotary import Table, language_table, turn


class Block(NamedTuple):
    qkv: Affine
    gate_up: Affine
    o: Tensor  # transposed, (D, D)
    down: Tensor  # transposed, (mlp, D)


class LanguageModel:
    """`llm(x, hidden)`: x (S, D) through all blocks into hidden (layers, S, D)."""

    def __init__(self, llm: Qwen2Model, config: LLMConfig, device: torch.device, dtype: torch.dtype):
        self._config = config
        self._table = language_table(config, config.max_positions, device, dtype)
        self._blocks = []
        for layer in llm.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = joined([Affine.of(attention.get_submodule(f"{n}_proj"), device) for n in "qkv"])
            gate_up = joined([Affine.of(mlp.gate_proj, device), Affine.of(mlp.up_proj, device)])
            self._blocks.append(
                Block(
                    qkv.after(layer.input_layernorm).to(dtype),
                    gate_up.after(layer.post_attention_layernorm).to(dtype),
                    exact(attention.o_proj.weight, device).to(dtype).T,
                    exact(mlp.down_proj.weight, device).to(dtype).T,
                )
            )
        self._norm = exact(llm.norm.weight, device).to(dtype)

    def __call__(self, x: Tensor, hidden: Tensor) -> None:
        table = tuple(t[: len(x)].unsqueeze(1) for t in self._table)
        for block, out in zip(self._blocks, hidden.unbind(), strict=True):
            torch.addmm(x, self._attended(x, block, table), block.o, out=out)
            gate, up = F.linear(self._normed(out), *block.gate_up).chunk(2, dim=1)
            out.addmm_(F.silu(gate).mul_(up), block.down)
            x = out
        x.copy_(self._normed(x, self._norm))

    def _attended(self, x: Tensor, block: Block, table: Table) -> Tensor:
        """(S, D): each row's causal attention, before the output map."""
        heads, kv_heads, d = (
            self._config.heads,
            self._config.kv_heads,
            self._config.width // self._config.heads,
        )
        qkv = F.linear(self._normed(x), *block.qkv).view(len(x), -1, d)
        qk, v = qkv.split([heads + kv_heads, kv_heads], dim=1)
        turned = torch.empty_like(qk, memory_format=torch.contiguous_format)
        turn(qk.unflatten(2, (2, -1)), table, out=turned.unflatten(2, (2, -1)))
        q, k = turned.split([heads, kv_heads], dim=1)
        q, k, v = (z.transpose(0, 1).unsqueeze(0) for z in (q, k, v))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return o[0].transpose(0, 1).reshape(x.shape)

    def _normed(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], weight, self._config.rms_norm_eps)
