"""The discrete head (DiscreteActionHead of public VLA-Adapter derivatives): a distribution over bins per action.

logits = the trunk's output (B, H, A K) as (B, H, A, K), K bins for each action dimension (bins.py)
loss   = mean over valid (b, t, a) of -log softmax(logits)[b, t, a, encode(action)]
sample = centre of the likeliest bin ("argmax"), or sum_k softmax(logits)_k centre(k) ("expectation")
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.features import Features
from vla_model.heads.bins import centres, encode, widen
from vla_model.heads.contract import HeadLoss, masked_mean, valid_elements
from vla_model.heads.trunk import BridgeHead


class DiscreteHead(BridgeHead):
    """Base or Pro trunk with A K outputs. `bin_low` and `bin_high` (A,), normalised, belong to the checkpoint."""

    loss_name = "cross-entropy"

    def __init__(self, config: ModelConfig):
        super().__init__(config, outputs=config.action_dim * config.head.bins)
        self.bins, self.decoding = config.head.bins, config.head.decode
        low, high = widen(-torch.ones(config.action_dim), torch.ones(config.action_dim))
        self.register_buffer("bin_low", low)
        self.register_buffer("bin_high", high)

    def fit_range(self, low: Tensor, high: Tensor) -> None:
        """Lay the bins over the data's range (A,) of normalised actions, 5 % wider on each side."""
        for edge, value in zip((self.bin_low, self.bin_high), widen(low.float(), high.float()), strict=True):
            edge.copy_(value)

    def loss(
        self,
        features: Features,
        actions: Tensor,
        state: Tensor,
        step_mask: Tensor | None = None,
        dim_mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> HeadLoss:
        """Cross-entropy of valid elements; noise (H, A D), drawn when None, is shared by the batch.

        Metrics: `accuracy`, the share of valid elements whose likeliest bin is the right one; `l1` of the decoded
        chunk; `outside_bins`, the share that the bins do not cover and that counts as their outermost one.
        """
        logits = self.logits(features, state, self.training_noise() if noise is None else noise)
        mask = valid_elements(actions, step_mask, dim_mask)
        actions = torch.where(mask, actions.float(), self.bin_low)
        target, outside = encode(actions, self.bin_low, self.bin_high, self.bins)
        entropy = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view_as(actions)
        with torch.no_grad():
            metrics = {
                "accuracy": masked_mean((logits.argmax(-1) == target).float(), mask),
                "l1": masked_mean((self.decode(logits) - actions).abs(), mask),
                "outside_bins": masked_mean(outside.float(), mask),
            }
        return HeadLoss(masked_mean(entropy, mask), entropy.detach().masked_fill(~mask, 0), metrics)

    def sample(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """A chunk (B, H, A) float32; `noise` (H, A D) replaces the stem's zero input, as in training."""
        return self.decode(self.logits(features, state, noise))

    def logits(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, H, A, K) float32."""
        return self.trunk(features, state, noise).float().unflatten(-1, (-1, self.bins))

    def decode(self, logits: Tensor) -> Tensor:
        """Logits (..., A, K) to actions (..., A), as the config's `decode` says."""
        values = centres(self.bin_low, self.bin_high, self.bins)
        if self.decoding == "expectation":
            return (logits.softmax(-1) * values).sum(-1)
        best = logits.argmax(-1, keepdim=True)
        return values.expand_as(logits).gather(-1, best).squeeze(-1)

    def _apply(self, fn, recurse: bool = True) -> DiscreteHead:
        """Bins stay float32 when the model is cast: bfloat16 would move them by up to half their width."""
        low, high = self.bin_low, self.bin_high
        super()._apply(fn, recurse)
        if self.bin_low.dtype != torch.float32:
            self.bin_low, self.bin_high = low.to(self.bin_low.device), high.to(self.bin_high.device)
        return self
