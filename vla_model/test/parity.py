"""Models of every published and sound form at small widths, all weights noisy, for tests against the naive model."""

from __future__ import annotations

import numpy as np
import torch
from tiny_model import tiny_config
from torch import Tensor

from bench.naive_vla.images import pixels
from bench.naive_vla.model import NaiveVLA
from vla_model import presets
from vla_model.adapter import VLAAdapter
from vla_model.config import HeadConfig, ModelConfig
from vla_model.fast.model import FastModel

HEADS = ("base", "pro", "dual_arm")
FORMS = ("published", "sound")
RIGS = ((8, 7), (25, 14), (30, 16))  # chunk and action sizes of LIBERO, ALOHA and Teleavatar
PROMPT = (1, 17, 5, 99, 42, 7, 300)


def model_config(
    cameras: int, horizon: int, action_dim: int, head: str, form: str, discrete: bool = False
) -> ModelConfig:
    """`head`: a block of the single-arm head, or "dual_arm". Published: all quirks, the split at two cameras' tokens
    (8), as released checkpoints split at 512.
    """
    options = {"block": head}
    if head == "dual_arm":
        options = {"type": head, "arm_dims": (action_dim // 2, action_dim - action_dim // 2)}
    if discrete:
        options |= {"type": "discrete", "bins": 16}
    sizes = {"state_dim": action_dim, "action_dim": action_dim, "horizon": horizon}
    if form == "published":
        quirks = {"shifted_slices": True, "fixed_task_tokens": 8}
        config = tiny_config(cameras, **sizes, **quirks)
        return config.model_copy(update={"head": presets.published_head(heads=4, **options)})
    return tiny_config(cameras, **sizes).model_copy(update={"head": HeadConfig(heads=4, **options)})


def noisy_model(config: ModelConfig, seed: int = 0) -> VLAAdapter:
    """Random weights, none of them at a value that hides a mistake: 0 for biases and gates, 1 for scales."""
    torch.manual_seed(seed)
    model = VLAAdapter(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.7 if "gating" in name else 0.1)
    return model


def inputs(config: ModelConfig, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Resized images (N, 3, s, s) uint8, prompt ids (1, L), normalised state (1, S)."""
    g = torch.Generator().manual_seed(seed)
    shape = (len(config.camera_names), 3, config.vision.image_size, config.vision.image_size)
    images = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)
    return images, torch.tensor([PROMPT]), torch.rand(1, config.state_dim, generator=g) * 2 - 1


def naive_pixels(images: Tensor, config: ModelConfig) -> Tensor:
    """(N, 3, s, s) uint8 -> the naive model's (1, 6 N, s, s), one image at a time."""
    frames = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
    return torch.cat([pixels(frame, config.vision)[None] for frame in frames], dim=1)


def naive_states(naive: NaiveVLA, images: Tensor, ids: Tensor) -> Tensor:
    return naive.states(naive_pixels(images, naive.config).to(naive.action_queries.weight), ids)


def naive_chunk(naive: NaiveVLA, images: Tensor, ids: Tensor, state: Tensor) -> Tensor:
    return naive.head(naive_states(naive, images, ids), state.to(naive.action_queries.weight))


def plain_features(model: VLAAdapter, images: Tensor, ids: Tensor):
    like = model.backbone.action_queries.weight
    return model.backbone(tuple(x.to(like) for x in model.preprocess.normalize(images[None])), ids)


def fast_chunk(model: VLAAdapter, images: Tensor, ids: Tensor, state: Tensor) -> Tensor:
    return FastModel(model)(images, ids, state)


def plain_chunk(model: VLAAdapter, images: Tensor, ids: Tensor, state: Tensor) -> Tensor:
    like = model.backbone.action_queries.weight
    return model.head.sample(plain_features(model, images, ids), state.to(like))


PATHS = {"plain": plain_chunk, "fast": fast_chunk}
