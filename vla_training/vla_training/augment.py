"""Changes to a batch that a policy should not care about, drawn from one seeded generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BRIGHTNESS = 0.2  # of full scale, up or down; contrast factor 0.8 to 1.2: as in VLA-Adapter and OpenVLA
CONTRAST = 0.2
SHIFT = 0.05  # of the side, per axis


def augment_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, brightness and contrast, drawn per image: uint8 (..., 3, s, s) -> the same.

    The shift repeats the edge (Kostrikov et al. 2021, arXiv 2004.13649): unlike a random crop it keeps the
    scale at which the policy will see the scene.
    """
    flat = images.flatten(0, -4)
    side, pad = flat.shape[-1], round(SHIFT * flat.shape[-1])
    padded = F.pad(flat.float(), (pad, pad, pad, pad), mode="replicate")
    corner = torch.randint(0, 2 * pad + 1, (len(flat), 2), generator=generator).tolist()
    moved = torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, corner, strict=True)])
    light = BRIGHTNESS * 255 * _signed(len(flat), generator)
    gain = 1 + CONTRAST * _signed(len(flat), generator)
    mean = moved.mean(dim=(-3, -2, -1), keepdim=True)
    out = (moved - mean) * gain + mean + light
    return out.round_().clamp_(0, 255).to(torch.uint8).view(images.shape)


def augment_state(state: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Normalised state (B, S) with Gaussian noise: the policy will leave the recorded path a little."""
    return state + std * torch.randn(state.shape, generator=generator)


def _signed(count: int, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) uniform in -1 .. 1."""
    return 2 * torch.rand(count, 1, 1, 1, generator=generator) - 1
