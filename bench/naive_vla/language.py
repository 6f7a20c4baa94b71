"""Qwen2 as transformers 4.40.1 runs it: cache, repeated keys, all hidden states, logits of every position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_model.config import LLMConfig


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        dtype, x = x.dtype, x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(dtype)


class Attention(nn.Module):
    def __init__(self, llm: LLMConfig):
        super().__init__()
        self.heads, self.kv_heads, self.dim = llm.heads, llm.kv_heads, llm.width // llm.heads
        self.q_proj = nn.Linear(llm.width, llm.width)
        self.k_proj = nn.Linear(llm.width, llm.kv_heads * self.dim)
        self.v_proj = nn.Linear(llm.width, llm.kv_heads * self.dim)
        self.o_proj = nn.Linear(llm.width, llm.width, bias=False)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], positions: Tensor, cache: list) -> Tensor:
        B, S, D = x.shape
        q = self.q_proj(x).view(B, S, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(B, S, self.kv_heads, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(B, S, self.kv_heads, self.dim).transpose(1, 2)
        cos, sin = (t[:S].to(x.dtype)[positions].unsqueeze(1) for t in table)
        q, k = q * cos + _half_turned(q) * sin, k * cos + _half_turned(k) * sin
        cache.append((k, v))
        k, v = (_repeated(z, self.heads // self.kv_heads) for z in (k, v))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(o.transpose(1, 2).contiguous().view(B, S, D))


class Mlp(nn.Module):
    def __init__(self, llm: LLMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(llm.width, llm.mlp, bias=False)
        self.up_proj = nn.Linear(llm.width, llm.mlp, bias=False)
        self.down_proj = nn.Linear(llm.mlp, llm.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, llm: LLMConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(llm.width, llm.rms_norm_eps)
        self.self_attn = Attention(llm)
        self.post_attention_layernorm = RMSNorm(llm.width, llm.rms_norm_eps)
        self.mlp = Mlp(llm)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], positions: Tensor, cache: list) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), table, positions, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen2(nn.Module):
    def __init__(self, llm: LLMConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(llm.vocab, llm.width)
        self.layers = nn.ModuleList(Layer(llm) for _ in range(llm.layers))
        self.norm = RMSNorm(llm.width, llm.rms_norm_eps)
        for name in ("cos", "sin"):
            self.register_buffer(name, torch.empty(llm.max_positions, llm.width // llm.heads))

    def forward(self, x: Tensor, attention_mask: Tensor) -> tuple[list[Tensor], Tensor, list]:
        """Embeddings (1, S, D) -> layers + 1 hidden states, the last one normed; float32 logits; cache."""
        if not torch.all(attention_mask == 1):
            raise ValueError("the reference infers without padding")
        positions = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        cache, states = [], []
        for layer in self.layers:
            states.append(x)
            x = layer(x, (self.cos, self.sin), positions, cache)
        states.append(self.norm(x))
        logits = F.linear(states[-1], self.embed_tokens.weight).float()
        return states, logits, cache


def rotary_table(llm: LLMConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (positions, head width): float32 angles, then cast."""
    dim = llm.width // llm.heads
    frequencies = 1.0 / (llm.rope_theta ** (torch.arange(0, dim, 2, device="cpu").float() / dim))
    angles = torch.outer(torch.arange(llm.max_positions, device="cpu").float(), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _half_turned(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat([-x[..., half:], x[..., :half]], dim=-1)


def _repeated(x: Tensor, times: int) -> Tensor:
    B, heads, S, dim = x.shape
    return x[:, :, None].expand(B, heads, times, S, dim).reshape(B, heads * times, S, dim)
