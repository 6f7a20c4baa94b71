"""The dual-arm head (DualArmActionHead of public VLA-Adapter derivatives): a stream of chunk rows for each arm.

x_L, x_R = zeros (H, D), or noise in training  (+ a vector per arm and step, sound form)
x_L, x_R <- block_i(x_L, x_R; task tokens of layer i + 1, halves of the query tokens of layer i + 1, state token)
out      = [W_L LN_L(x_L) + b_L, W_R LN_R(x_R) + b_R]

The first half of the query tokens belongs to the left arm, the second to the right: 64 each of 128 as published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_model.config import ModelConfig
from vla_model.features import Features
from vla_model.heads.contract import ActionHead, HeadLoss, l1_loss
from vla_model.heads.inter_arm import ARMS, InterArmBlock
from vla_model.heads.rotary import Rotary
from vla_model.heads.trunk import ProprioProjector


class DualArmHead(ActionHead):
    """Regression of both arms in one pass; trained on the mean absolute error of normalised actions."""

    needs = ("task_layers", "query_layers")

    def __init__(self, config: ModelConfig):
        super().__init__()
        head, width = config.head, config.llm.width
        self.horizon, self.noise_std = config.horizon, head.stem_noise_std
        self.proprio_projector = ProprioProjector(config.state_dim, width)
        self.blocks = nn.ModuleList(InterArmBlock(width, head) for _ in range(config.llm.layers))
        for arm, dim in zip(ARMS, head.arm_dims, strict=True):
            self.add_module(f"layer_norm_{arm}", nn.LayerNorm(width))
            self.add_module(f"fc2_{arm}", nn.Linear(width, dim))
        self.step_embedding = (
            nn.Parameter(torch.randn(2, config.horizon, width)) if head.step_embedding else None
        )
        self.rotary = Rotary(config.horizon, width // head.heads, head.rotary_pairing, head.rotary_table)

    def loss(
        self,
        features: Features,
        actions: Tensor,
        state: Tensor,
        step_mask: Tensor | None = None,
        dim_mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> HeadLoss:
        """Mean absolute error of valid elements; noise (2, H, D), drawn when None, is shared by the batch."""
        noise = self.training_noise() if noise is None else noise
        return l1_loss(self.sample(features, state, noise), actions, step_mask, dim_mask)

    def sample(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """A chunk (B, H, A), left arm first; `noise` (2, H, D) replaces the zero seeds, as in training."""
        features.require(type(self).__name__, self.needs)
        x = self._zeros() if noise is None else noise
        x = x if self.step_embedding is None else x + self.step_embedding
        x = x.unsqueeze(1).expand(-1, len(state), -1, -1)
        p = self.proprio_projector(state).expand(2, -1, -1, -1)
        layers = zip(self.blocks, features.task_layers[1:], features.query_layers[1:], strict=True)
        for block, h_t, h_a in layers:
            a = torch.cat([torch.stack(h_a.chunk(2, dim=1)), p], dim=2)
            x = block(x, block.condition(h_t, a), self.rotary)
        left, right = x
        left, right = self.fc2_L(self.layer_norm_L(left)), self.fc2_R(self.layer_norm_R(right))
        return torch.cat([left, right], dim=-1)

    def training_noise(self) -> Tensor | None:
        """(2, H, D), shared by a batch; None when the config asks for none."""
        return self.noise_std * torch.randn_like(self._zeros()) if self.noise_std else None

    def _zeros(self) -> Tensor:
        return self.layer_norm_L.weight.new_zeros(2, self.horizon, self.fc2_L.in_features)
