"""The L1 regression head of VLA-Adapter Pro (L1RegressionActionHead of the reference with use_pro_version).

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
from vla_model.heads.bridge import BridgeBlock
from vla_model.heads.contract import ActionHead, HeadLoss, masked_mean
from vla_model.heads.rotary import Rotary


class ProprioProjector(nn.Module):
    """State (B, S) to one token (B, 1, D)."""

    def __init__(self, state_dim: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, state: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(state))).unsqueeze(1)


class L1Head(ActionHead):
    """Predicts the whole chunk in one pass; trained on the mean absolute error of normalised actions."""

    needs = ("task_layers", "query_layers")

    def __init__(self, config: ModelConfig):
        super().__init__()
        head, width = config.head, config.llm.width
        self.horizon, self.noise_std = config.horizon, head.stem_noise_std
        self.proprio_projector = ProprioProjector(config.state_dim, width)
        self.layer_norm1 = nn.LayerNorm(config.action_dim * width)
        self.fc1 = nn.Linear(config.action_dim * width, width)
        self.mlp_resnet_blocks = nn.ModuleList(BridgeBlock(width, head) for _ in range(config.llm.layers))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, config.action_dim)
        self.step_embedding = (
            nn.Parameter(torch.randn(config.horizon, width)) if head.step_embedding else None
        )
        positions = max(config.horizon, config.query_tokens + 1, config.task_tokens)
        self.rotary = Rotary(positions, width // head.heads, head.rotary_pairing, head.rotary_table)
        self._stem: Tensor | None = None

    def loss(
        self,
        features: Features,
        actions: Tensor,
        state: Tensor,
        step_mask: Tensor | None = None,
        dim_mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> HeadLoss:
        """Mean absolute error of valid elements; noise (H, A D), drawn when None, is shared by the batch."""
        if noise is None and self.noise_std > 0:
            noise = self.noise_std * torch.randn(
                self.horizon, self.fc1.in_features, device=actions.device, dtype=self.fc1.weight.dtype
            )
        error = (self._predict(features, state, self._rows(noise)).float() - actions.float()).abs()
        loss = masked_mean(error, step_mask, dim_mask)
        per_element = error.detach()
        return HeadLoss(loss, per_element, {"l1": loss.detach(), "l1_first_step": per_element[:, 0].mean()})

    def sample(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """A chunk (B, H, A); `noise` (H, A D) replaces the stem's zero input, as in training."""
        rows = self._stem if noise is None and self._stem is not None else self._rows(noise)
        return self._predict(features, state, rows)

    def prepare(self) -> None:
        """Keep the stem's rows, which depend on weights alone; `train` and `eval` drop them."""
        with torch.no_grad():
            self._stem = self._rows(None)

    def train(self, mode: bool = True) -> L1Head:
        self._stem = None
        return super().train(mode)

    def _rows(self, noise: Tensor | None) -> Tensor:
        """The stem's output (H, D)."""
        if noise is None:  # zeros, and so the same for every row: one row will do
            noise = self.fc1.weight.new_zeros(1, self.fc1.in_features)
        rows = F.relu(self.fc1(self.layer_norm1(noise))).expand(self.horizon, -1)
        return rows if self.step_embedding is None else rows + self.step_embedding

    def _predict(self, features: Features, state: Tensor, rows: Tensor) -> Tensor:
        features.require("l1", self.needs)
        p = self.proprio_projector(state.to(self.fc1.weight.dtype))
        x = rows.expand(len(state), -1, -1)
        layers = zip(self.mlp_resnet_blocks, features.task_layers[1:], features.query_layers[1:], strict=True)
        for block, h_t, h_a in layers:
            x = block(x, block.condition(h_t, torch.cat([h_a, p], dim=1), self.rotary), self.rotary)
        return self.fc2(self.layer_norm2(x))
