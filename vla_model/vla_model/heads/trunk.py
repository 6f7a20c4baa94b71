"""The trunk of the single-arm heads (MLPResNet of the reference): from features to one row per action of the chunk.

x   = ReLU(W_1 LN(z) + b_1), z (H, A D): zeros, or noise in training  (+ a vector per step, sound form)
x  <- block_i(x, task tokens of layer i + 1, query tokens of layer i + 1, state token),  i = 0 .. layers - 1
out = W_2 LN(x) + b_2
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_model.config import ModelConfig
from vla_model.features import Features
from vla_model.heads.bridge import BaseBlock, ProBlock
from vla_model.heads.contract import ActionHead
from vla_model.heads.rotary import Rotary

BLOCKS = {"base": BaseBlock, "pro": ProBlock}


class ProprioProjector(nn.Module):
    """State (B, S) to one token (B, 1, D)."""

    def __init__(self, state_dim: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, state: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(state.to(self.fc1.weight.dtype)))).unsqueeze(1)


class BridgeHead(ActionHead):
    """Stem, one block per layer of the language model, and an output of `outputs` numbers per chunk row."""

    needs = ("task_layers", "query_layers")

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__()
        head, width = config.head, config.llm.width
        self.horizon, self.noise_std = config.horizon, head.stem_noise_std
        self.proprio_projector = ProprioProjector(config.state_dim, width)
        self.layer_norm1 = nn.LayerNorm(config.action_dim * width)
        self.fc1 = nn.Linear(config.action_dim * width, width)
        block = BLOCKS[head.block]
        self.mlp_resnet_blocks = nn.ModuleList(block(width, head) for _ in range(config.llm.layers))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, outputs)
        self.step_embedding = (
            nn.Parameter(torch.randn(config.horizon, width)) if head.step_embedding else None
        )
        positions = max(config.horizon, config.query_tokens + 1, config.task_tokens)
        self.rotary = Rotary(positions, width // head.heads, head.rotary_pairing, head.rotary_table)

    def trunk(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, H, outputs) for state (B, S); `noise` (H, A D) stands in place of the stem's zeros."""
        features.require(type(self).__name__, self.needs)
        x, p = self._rows(noise).expand(len(state), -1, -1), self.proprio_projector(state)
        layers = zip(self.mlp_resnet_blocks, features.task_layers[1:], features.query_layers[1:], strict=True)
        for block, h_t, h_a in layers:
            x = block(x, block.condition(h_t, torch.cat([h_a, p], dim=1), self.rotary), self.rotary)
        return self.fc2(self.layer_norm2(x))

    def training_noise(self) -> Tensor | None:
        """(H, A D), shared by a batch; None when the config asks for none."""
        if not self.noise_std:
            return None
        return self.noise_std * torch.randn_like(self.layer_norm1.weight.expand(self.horizon, -1))

    def _rows(self, noise: Tensor | None) -> Tensor:
        """The stem's output (H, D)."""
        if noise is None:  # zeros, and so the same for every row: one row will do
            noise = self.fc1.weight.new_zeros(1, self.fc1.in_features)
        rows = F.relu(self.fc1(self.layer_norm1(noise))).expand(self.horizon, -1)
        return rows if self.step_embedding is None else rows + self.step_embedding
