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
    """`loss` is a scalar; `per_element` (B, H, A), unmasked, and the scalar `metrics` are detached."""

    loss: Tensor
    per_element: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class ActionHead(nn.Module, ABC):
    """Features and a normalised state in, a normalised chunk of actions out."""

    needs: ClassVar[tuple[str, ...]]  # the fields of Features that the head reads

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

    def prepare(self) -> None:
        """Compute ahead whatever depends on the weights alone; called when they will not change any more."""


def masked_mean(per_element: Tensor, step_mask: Tensor | None, dim_mask: Tensor | None) -> Tensor:
    """Mean of (B, H, A) over the valid elements alone; 0 where nothing is valid."""
    if step_mask is None and dim_mask is None:
        return per_element.mean()
    mask = torch.ones_like(per_element)
    if step_mask is not None:
        mask = mask * step_mask.to(mask.dtype).unsqueeze(-1)
    if dim_mask is not None:
        mask = mask * dim_mask.to(mask.dtype)
    return (per_element * mask).sum() / mask.sum().clamp(min=1)
