"""Ready-made configurations: VLA-Adapter as released, and the same model in a size for one CPU core."""

from __future__ import annotations

from vla_model.config import HeadConfig, LLMConfig, ModelConfig, TowerConfig, VisionConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def published(
    camera_names: tuple[str, ...], state_dim: int, action_dim: int, horizon: int, dt_s: float, **changes
) -> ModelConfig:
    """VLA-Adapter Pro as released: Qwen2.5-0.5B, DINOv2-L/14, SigLIP-So400m/14, all quirks on."""
    config = {
        "vision": VisionConfig(
            # the released preprocessor's DINOv2 constants are ImageNet's, rounded to bfloat16
            dinov2=TowerConfig(
                width=1024, depth=24, heads=16, mlp=4096, registers=4,
                mean=(0.484375, 0.455078125, 0.40625), std=(0.228515625, 0.2236328125, 0.224609375),
            ),
            siglip=TowerConfig(width=1152, depth=27, heads=16, mlp=4304),
            jpeg_quality=95,
            resize="lanczos3",
            crop_area=0.9,
            crop_stage="after_resize",
        ),
        "llm": LLMConfig(width=896, layers=24, heads=14, kv_heads=2, mlp=4864, vocab=151936),
        "projector_hidden": 4 * (1024 + 1152),
        "shifted_slices": True,
        "fixed_task_tokens": 512,
        "head": published_head(),
        "normalization": "bounds_q99",
        "constant_state": "published",
    }  # fmt: skip
    sizes = {"state_dim": state_dim, "action_dim": action_dim, "horizon": horizon, "dt_s": dt_s}
    return ModelConfig(camera_names=tuple(camera_names), **sizes, **(config | changes))


def published_head(**changes) -> HeadConfig:
    """The head's published quirks; `changes` on top, such as block="base"."""
    quirks = {
        "rotary_pairing": "mixed",
        "rotary_table": "bfloat16",
        "task_gate": "logits",
        "film": changes.get("type", "l1") != "dual_arm" and changes.get("block", "pro") == "pro",
        "stem_noise_std": 0.02,
        "step_embedding": False,
    }
    return HeadConfig(**(quirks | changes))


def small(
    camera_names: tuple[str, ...], state_dim: int, action_dim: int, horizon: int, dt_s: float, **changes
) -> ModelConfig:
    """The same model in a size for one CPU core, in the sound form; to be trained from random weights.

    Few, large patches keep what differs between images from being averaged away by random towers.
    """
    tower = {"width": 96, "depth": 4, "heads": 4, "mlp": 384}
    config = {
        "vision": VisionConfig(
            image_size=112,
            patch_size=56,
            dinov2=TowerConfig(registers=4, mean=IMAGENET_MEAN, std=IMAGENET_STD, **tower),
            siglip=TowerConfig(**tower),
            resize="bilinear",
        ),
        "llm": LLMConfig(width=128, layers=3, heads=2, kv_heads=1, mlp=256, vocab=512, max_positions=4096),
        "projector_hidden": 384,
        "action_queries": 8,
        "head": HeadConfig(gate_init=0.5),
    }
    sizes = {"state_dim": state_dim, "action_dim": action_dim, "horizon": horizon, "dt_s": dt_s}
    return ModelConfig(camera_names=tuple(camera_names), **sizes, **(config | changes))
