"""The contract between a model and its action heads.

Actions and states are normalised here; units live in `normalize`. Masks are 1 = valid. Everything random that
a head draws can be handed in, so that tests are exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vla_model.features import Features


@dataclass(frozen=True)
class HeadLoss:
    """`loss` is a scalar; `per_element` (B, H, A), 0 where masked, and the scalar `metrics` are detached."""

    loss: Tensor
    per_element: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class ActionHead(nn.Module, ABC):
    """Features and a normalised state in, a normalised chunk of actions out."""

    needs: ClassVar[tuple[str, ...]]  # the fields of Features that the head reads
    loss_name: ClassVar[str] = "mean absolute error (normalised)"

    @abstractmethod
    def loss(
        self,
        features: Features,
        actions: Tensor,
        state: Tensor,
        step_mask: Tensor | None = None,
        dim_mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> HeadLoss:
        """Training loss of actions (B, H, A), state (B, S), step_mask (B, H), dim_mask (A,)."""

    @abstractmethod
    def sample(self, features: Features, state: Tensor, noise: Tensor | None = None) -> Tensor:
        """A chunk (B, H, A) for state (B, S)."""

    def fit_range(self, low: Tensor, high: Tensor) -> None:
        """Take the range (A,) that normalised actions have in the data, before training. Most heads need none."""


def valid_elements(actions: Tensor, step_mask: Tensor | None, dim_mask: Tensor | None) -> Tensor:
    """Mask (B, H, A) bool of the actions that count: those of valid steps in valid dimensions."""
    mask = torch.ones_like(actions, dtype=torch.bool)
    if step_mask is not None:
        mask = mask & step_mask.bool().unsqueeze(-1)
    if dim_mask is not None:
        mask = mask & dim_mask.bool()
    return mask


def masked_mean(per_element: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid elements alone; 0 where nothing is valid."""
    return per_element.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def l1_loss(
    prediction: Tensor, actions: Tensor, step_mask: Tensor | None, dim_mask: Tensor | None
) -> HeadLoss:
    """Mean absolute error of chunks (B, H, A) over the valid elements, whatever stands in the others."""
    mask = valid_elements(actions, step_mask, dim_mask)
    prediction = prediction.float()
    error = (prediction - torch.where(mask, actions.float(), prediction.detach())).abs()
    loss, per_element = masked_mean(error, mask), error.detach()
    first = masked_mean(per_element[:, :1], mask[:, :1])
    return HeadLoss(loss, per_element, {"l1_first_step": first})
