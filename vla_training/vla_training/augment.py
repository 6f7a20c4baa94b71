"""Changes to a batch that a policy should not care about, drawn from one seeded generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_model.resampling import crop_and_resize, crop_grid

BRIGHTNESS = 0.2  # of full scale, up or down; contrast factor 0.8 to 1.2: as in VLA-Adapter and OpenVLA
CONTRAST = 0.2
SHIFT = 0.05  # of the side, per axis


def augment_images(images: Tensor, generator: torch.Generator, crop_area: float = 1.0) -> Tensor:
    """Another place, brightness and contrast, drawn per image: stretched uint8 (..., 3, s, s) -> the same.

    A model that crops to `crop_area` after the stretch (published) gets that share of the picture from a random
    place, as it was trained, where serving takes the centre. For any other model the picture is shifted.
    """
    flat = images.flatten(0, -4)
    moved = _shifted(flat, generator) if crop_area == 1.0 else _cropped(flat, generator, crop_area)
    light = BRIGHTNESS * 255 * _signed(len(flat), generator)
    gain = 1 + CONTRAST * _signed(len(flat), generator)
    mean = moved.mean(dim=(-3, -2, -1), keepdim=True)
    out = (moved - mean) * gain + mean + light
    return out.round_().clamp_(0, 255).to(torch.uint8).view(images.shape)


def augment_state(state: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Normalised state (B, S) with Gaussian noise: the policy will leave the recorded path a little."""
    return state + std * torch.randn(state.shape, generator=generator)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moved by whole pixels, float (n, 3, s, s).

    The edge is repeated (Kostrikov et al. 2021, arXiv 2004.13649): unlike a random crop this keeps the scale
    at which the policy will see the scene.
    """
    side, pad = images.shape[-1], round(SHIFT * images.shape[-1])
    padded = F.pad(images.float(), (pad, pad, pad, pad), mode="replicate")
    corner = torch.randint(0, 2 * pad + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, corner, strict=True)])


def _cropped(images: Tensor, generator: torch.Generator, area: float) -> Tensor:
    """A crop of fixed area and drawn place, stretched back, float (n, 3, s, s): dlimp's augment_image."""
    room = 1 - area**0.5
    corners = (room * torch.rand(len(images), 2, generator=generator)).tolist()
    return crop_and_resize(images, crop_grid(corners, area, images.shape[-1])).float()


def _signed(count: int, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) uniform in -1 .. 1."""
    return 2 * torch.rand(count, 1, 1, 1, generator=generator) - 1
