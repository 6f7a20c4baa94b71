"""The L1 regression head, base or Pro (L1RegressionActionHead of the reference): the trunk's output is the chunk."""

from __future__ import annotations

from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.features import Features
from vla_model.heads.contract import HeadLoss, l1_loss
from vla_model.heads.trunk import BridgeHead


class L1Head(BridgeHead):
    """Predicts the whole chunk in one pass; trained on the mean absolute error of normalised actions."""

    def __init__(self, config: ModelConfig):
        super().__init__(config, outputs=config.action_dim)

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
        noise = self.training_noise() if noise is None else noise
        return l1_loss(self.trunk(features, state, noise), actions, step_mask, dim_mask)

    def sample(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """A chunk (B, H, A); `noise` (H, A D) replaces the stem's zero input, as in training."""
        return self.trunk(features, state, noise)
