"""A released folder with all of its tensors, at small widths."""

from vla_model import presets
from vla_model.config import LLMConfig, ModelConfig

CAMERAS = ("head", "left_wrist")


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
