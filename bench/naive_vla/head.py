"""The reference's L1 head, base and Pro (action_heads.py), and the discrete head on the same trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.naive_vla.attention import NaiveBlock, ffn
from vla_model.config import HeadConfig, ModelConfig


class ProprioProjector(nn.Module):
    def __init__(self, state_dim: int, width: int):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(state_dim, width), nn.GELU(), nn.Linear(width, width)

    def forward(self, state: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(state)))


class BaseBlock(NaiveBlock):
    """One projection for all three sources, no positions."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__(width, config)
        self.ffn = ffn(width)
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.gating_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, h_t: Tensor, h_a: Tensor, p: Tensor) -> Tensor:
        gate = torch.tanh(self.gating_factor)
        a = torch.cat([h_a, p], dim=1)
        sources = [(self.split(self.k_proj(z)), self.split(self.v_proj(z))) for z in (x, a, h_t)]
        o = self.attend(self.split(self.q_proj(x)), sources, 2, gate)
        return self.ffn(self.o_proj(o) + x)


class ProBlock(NaiveBlock):
    """Projections of its own for each source; q and every k turned, also the twin of a k that nobody reads."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__(width, config)
        self.ffn = ffn(width)
        for name in ("q_proj", "k_self", "v_self", "k_adapter", "v_adapter", "k_task", "v_task", "o_proj"):
            setattr(self, name, nn.Linear(width, width))
        self.gating_factor = nn.Parameter(torch.zeros(1))
        if config.film:
            self.film_gen = nn.Sequential(nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, h_t: Tensor, h_a: Tensor, p: Tensor) -> Tensor:
        gate = torch.tanh(self.gating_factor)
        a = torch.cat([h_a, p], dim=1)
        q, k_s, v_s = (self.split(f(x)) for f in (self.q_proj, self.k_self, self.v_self))
        k_a, v_a = self.split(self.k_adapter(a)), self.split(self.v_adapter(a))
        k_t, v_t = self.split(self.k_task(h_t)), self.split(self.v_task(h_t))
        q, k_s = self.turned(q, k_s, self.rope(k_s.shape[2], x))
        _, k_a = self.turned(k_a, k_a, self.rope(k_a.shape[2], x))
        _, k_t = self.turned(k_t, k_t, self.rope(k_t.shape[2], x))
        o = self.attend(q, [(k_s, v_s), (k_a, v_a), (k_t, v_t)], 2, gate)
        return self.ffn(self.o_proj(o) + x)


class Head(nn.Module):
    """All hidden states (B, layers + 1, tokens, D) and state (B, S) to the last Linear's output (B, T, rows)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, head = config.llm.width, config.head
        self.task_tokens, self.T = config.task_tokens, config.horizon
        self.proprio_projector = ProprioProjector(config.state_dim, D)
        self.layer_norm1 = nn.LayerNorm(config.action_dim * D)
        self.fc1, self.relu = nn.Linear(config.action_dim * D, D), nn.ReLU()
        block = ProBlock if head.block == "pro" else BaseBlock
        self.mlp_resnet_blocks = nn.ModuleList(block(D, head) for _ in range(config.llm.layers))
        self.layer_norm2 = nn.LayerNorm(D)
        self.fc2 = nn.Linear(D, config.action_dim * (head.bins if head.type == "discrete" else 1))
        self.step_embedding = nn.Parameter(torch.zeros(config.horizon, D)) if head.step_embedding else None

    def forward(self, states: Tensor, proprio: Tensor) -> Tensor:
        p = self.proprio_projector(proprio).unsqueeze(1)
        h_t, h_a = states[:, :, : self.task_tokens], states[:, :, self.task_tokens :]
        x = torch.zeros(len(states), self.T, self.fc1.in_features, dtype=states.dtype, device=states.device)
        x = self.relu(self.fc1(self.layer_norm1(x)))
        if self.step_embedding is not None:
            x = x + self.step_embedding
        for i, block in enumerate(self.mlp_resnet_blocks):
            x = block(x, h_t[:, i + 1], h_a[:, i + 1], p)
        return self.fc2(self.layer_norm2(x))
