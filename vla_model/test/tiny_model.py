"""A model of the real classes, small enough to build and train within a test."""

import numpy as np
import torch

from vla_model import presets
from vla_model.config import HeadConfig, LLMConfig, ModelConfig, TowerConfig, VisionConfig
from vla_model.normalize import describe
from vla_model.policy import Observation

torch.set_num_threads(1)
STATE_DIM, ACTION_DIM, HORIZON = 5, 6, 8
RIG = "name: tiny\ncontrol_rate_hz: 50\n"


def tiny_config(cameras: int = 2, head: dict | None = None, **changes) -> ModelConfig:
    tower = {"width": 32, "depth": 3, "heads": 2, "mlp": 64}
    vision = VisionConfig(
        image_size=28,
        dinov2=TowerConfig(registers=2, **tower),
        siglip=TowerConfig(**tower),
        resize="bilinear",
    )
    parts = {
        "state_dim": STATE_DIM,
        "action_dim": ACTION_DIM,
        "horizon": HORIZON,
        "dt_s": 0.02,
        "vision": vision,
        "llm": LLMConfig(width=64, layers=4, heads=2, kv_heads=1, mlp=128, vocab=512),
        "projector_hidden": 64,
        "action_queries": 8,
        "head": HeadConfig(**({"heads": 4, "gate_init": 0.5} | (head or {}))),
    }
    return presets.small(tuple(f"cam_{i}" for i in range(cameras)), **(parts | changes))


def statistics(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "tiny": {
            "action": describe(rng.normal(size=(200, ACTION_DIM)) * 2 + 1),
            "proprio": describe(rng.normal(size=(200, STATE_DIM))),
            "num_transitions": 200,
            "num_trajectories": 2,
        }
    }


def observation(cameras: int = 2, seed: int = 0, instruction: str = "pick up the red cube") -> Observation:
    rng = np.random.default_rng(seed)
    images = {f"cam_{i}": rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(cameras)}
    return Observation(images, rng.normal(size=STATE_DIM).astype(np.float32), instruction, stamp_ns=7)


def batch(
    config: ModelConfig, size: int = 4, seed: int = 0, prompt_length: int = 12
) -> dict[str, torch.Tensor]:
    """One training batch; the samples differ in their images alone."""
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(
        0, 256, (size, len(config.camera_names), 28, 28, 3), generator=g, dtype=torch.uint8
    )
    return {
        "images": images,
        "input_ids": torch.arange(prompt_length).expand(size, -1),
        "state": torch.zeros(size, STATE_DIM),
        "actions": torch.rand(size, HORIZON, ACTION_DIM, generator=g) * 2 - 1,
        "action_mask": torch.ones(size, HORIZON),
    }
