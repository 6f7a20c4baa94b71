"""A released folder with all of its tensors, at small widths (fixture `folder`), and what tests do to it."""

import json

import numpy as np
import pytest
import torch

from vla_model import presets
from vla_model.config import LLMConfig, ModelConfig
from vla_model.files import CheckpointError
from vla_model.policy import Observation, Policy
from vla_model.released import Options

torch.set_num_threads(1)
CAMERAS = ("head", "left_wrist")
HEAD, PROJECTOR, VLM = "action_head--checkpoint.pt", "proprio_projector--checkpoint.pt", "model.safetensors"


def released_config(
    cameras: tuple[str, ...] = CAMERAS, state: int = 8, action: int = 7, horizon: int = 8, **changes
) -> ModelConfig:
    """The published model, as deep, with as many heads and registers, and of unequal small widths."""
    published = presets.published(cameras, state, action, horizon, 0.05)
    dinov2 = published.vision.dinov2.model_copy(update={"width": 32, "mlp": 64})
    siglip = published.vision.siglip.model_copy(update={"width": 48, "mlp": 80})
    small = {
        "vision": published.vision.model_copy(update={"image_size": 42, "dinov2": dinov2, "siglip": siglip}),
        "llm": LLMConfig(width=64, layers=24, heads=4, kv_heads=2, mlp=96, vocab=512),
        "projector_hidden": 4 * (32 + 48),
        "gripper": "libero",
        "gripper_dims": (action - 1,),
        "dataset": "libero_spatial_no_noops",
    }
    return published.model_copy(update=small | changes)


def load(folder, **options):
    return Policy.from_checkpoint(folder, "cpu", options=Options(**options) if options else None)


def observation(cameras=CAMERAS, state=8, seed=0):
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for name in cameras}
    return Observation(images, rng.normal(size=state).astype(np.float32), "pick up the red cube", 0)


def edit_json(path, change):
    """Let `change` work on the content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_head(folder, change):
    """Let `change` work on the head's state dict."""
    state = torch.load(folder / HEAD, weights_only=True)
    change(state)
    torch.save(state, folder / HEAD)


def refused(folder, **options):
    """What is said when it does not load."""
    with pytest.raises(CheckpointError) as error:
        load(folder, **options)
    return str(error.value)
