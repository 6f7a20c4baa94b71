"""What a model is made of: everything needed to build it, as it stands in a checkpoint's config.json.

The published quirks of VLA-Adapter (github.com/OpenHelix-Team/VLA-Adapter, commit 838a36d) are options with
names. Their defaults are the sound form, for new checkpoints; `ModelConfig.published` sets all of them as
released checkpoints need.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Triple = tuple[float, float, float]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class TowerConfig(_Section):
    """One vision transformer. `depth` counts all its blocks; the last one is neither built nor run."""

    width: int = Field(gt=0)
    depth: int = Field(ge=2)
    heads: int = Field(gt=0)
    mlp: int = Field(gt=0, description="hidden width of a block's MLP")
    registers: int = Field(0, ge=0, description="register tokens (DINOv2 only)")
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)


class VisionConfig(_Section):
    """Both towers see the same square image; DINOv2's channels come first in the fused feature."""

    image_size: int = Field(224, gt=0, description="side of the square towers' input, px")
    patch_size: int = Field(14, gt=0)
    dinov2: TowerConfig
    siglip: TowerConfig
    resize: Literal["bilinear", "bicubic"] = "bicubic"
    crop_area: float = Field(
        1.0, gt=0, le=1, description="share of the image's area that a centred crop keeps"
    )

    @property
    def patches(self) -> int:
        """Patches per camera."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def width(self) -> int:
        """Channels of the fused patch feature."""
        return self.dinov2.width + self.siglip.width

    @model_validator(mode="after")
    def _check(self) -> VisionConfig:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        for name, tower in (("dinov2", self.dinov2), ("siglip", self.siglip)):
            if tower.width % tower.heads:
                raise ValueError(f"{name}: width {tower.width} is not a multiple of heads {tower.heads}")
        if self.dinov2.mlp % self.dinov2.width:
            raise ValueError(f"dinov2: mlp {self.dinov2.mlp} is not a multiple of width {self.dinov2.width}")
        return self


class LLMConfig(_Section):
    """Qwen2 (github.com/QwenLM/Qwen2.5): sizes of the language model, without its output matrix."""

    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    mlp: int = Field(gt=0)
    vocab: int = Field(gt=0)
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    max_positions: int = 32768

    @model_validator(mode="after")
    def _check(self) -> LLMConfig:
        if self.width % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"width {self.width}, heads {self.heads}, kv_heads {self.kv_heads} do not divide"
            )
        return self


class HeadConfig(_Section):
    """The action head. One block per layer of the language model; its width is the language model's."""

    type: Literal["l1_pro"] = "l1_pro"
    heads: int = Field(8, gt=0)
    rotary_pairing: Literal["halves", "mixed"] = Field(
        "halves",
        description="'halves': dimension j turns with j + d/2, a true rotation; "
        "'mixed' (published): adjacent dimensions turn together, each by its own angle",
    )
    rotary_table: Literal["float32", "bfloat16"] = Field(
        "float32", description="precision in which the angles were computed; 'bfloat16' is published"
    )
    task_gate: Literal["output", "logits"] = Field(
        "output",
        description="what tanh(gate) multiplies: 'output': the output of a softmax over the task tokens alone, so "
        "that 0 closes them off; 'logits' (published): their logits in one joint softmax, where 0 does not",
    )
    gate_init: float = 0.0
    film: bool = Field(False, description="carry the unused FiLM weights that published files contain")
    stem_noise_std: float = Field(
        0.0,
        ge=0,
        description="noise on the stem's zero input in training (published: 0.02, which the stem's LayerNorm makes "
        "1, while inference sees none; training fits sooner without)",
    )
    step_embedding: bool = Field(
        True,
        description="add a learned vector per chunk step after the stem (published: False, rows are alike there)",
    )


class ModelConfig(_Section):
    """A whole model. Sizes of a rig (cameras, state, action) are data here, never code."""

    camera_names: tuple[str, ...] = Field(
        min_length=1, description="in the order in which the model reads them"
    )
    state_dim: int = Field(gt=0)
    action_dim: int = Field(gt=0)
    horizon: int = Field(gt=0, description="actions in a chunk")
    dt_s: float = Field(gt=0, description="time between two actions of a chunk")
    vision: VisionConfig
    llm: LLMConfig
    projector_hidden: int = Field(gt=0, description="width of the projector's first layer")
    action_queries: int = Field(64, gt=0)
    shifted_slices: bool = Field(
        False,
        description="published: the head's slices start one token early: task tokens lose the last patch and gain "
        "the first prompt token, query tokens lose the last query and gain the last prompt token",
    )
    fixed_task_tokens: int | None = Field(
        None,
        gt=0,
        description="published: 512; the head splits task and query tokens at this count whatever the cameras. "
        "None: the split follows the number of cameras",
    )
    head: HeadConfig = HeadConfig()
    normalization: Literal["bounds", "bounds_q99", "normal"] = "bounds"
    dataset: str | None = Field(
        None, description="entry of dataset_statistics.json; None when there is only one"
    )

    @property
    def patches(self) -> int:
        """Patches of all cameras."""
        return self.vision.patches * len(self.camera_names)

    @property
    def task_tokens(self) -> int:
        """Task tokens that a block of the head attends to."""
        if self.fixed_task_tokens is None:
            return self.patches
        return min(self.fixed_task_tokens, self.patches + self.action_queries)

    @property
    def query_tokens(self) -> int:
        """Query tokens that a block of the head attends to, without the state token."""
        return self.patches + self.action_queries - self.task_tokens

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if len(set(self.camera_names)) != len(self.camera_names):
            raise ValueError(f"camera_names repeats a name: {list(self.camera_names)}")
        if self.llm.width % (2 * self.head.heads):
            raise ValueError(
                f"head.heads {self.head.heads} must split llm.width {self.llm.width} into even parts"
            )
        return self

    @classmethod
    def published(
        cls,
        camera_names: tuple[str, ...],
        state_dim: int,
        action_dim: int,
        horizon: int,
        dt_s: float,
        **changes,
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
                crop_area=0.9,
            ),
            "llm": LLMConfig(width=896, layers=24, heads=14, kv_heads=2, mlp=4864, vocab=151936),
            "projector_hidden": 4 * (1024 + 1152),
            "shifted_slices": True,
            "fixed_task_tokens": 512,
            "head": HeadConfig(
                rotary_pairing="mixed", rotary_table="bfloat16", task_gate="logits", film=True,
                stem_noise_std=0.02, step_embedding=False,
            ),
            "normalization": "bounds_q99",
        }  # fmt: skip
        sizes = {"state_dim": state_dim, "action_dim": action_dim, "horizon": horizon, "dt_s": dt_s}
        return cls(camera_names=tuple(camera_names), **sizes, **(config | changes))

    @classmethod
    def small(
        cls,
        camera_names: tuple[str, ...],
        state_dim: int,
        action_dim: int,
        horizon: int,
        dt_s: float,
        **changes,
    ) -> ModelConfig:
        """The same model in a size for one CPU core, in the sound form; to be trained from random weights."""
        config = {
            "vision": VisionConfig(
                image_size=112,
                dinov2=TowerConfig(
                    width=96, depth=4, heads=4, mlp=384, registers=4, mean=IMAGENET_MEAN, std=IMAGENET_STD
                ),
                siglip=TowerConfig(width=96, depth=4, heads=4, mlp=384),
                resize="bilinear",
            ),
            "llm": LLMConfig(
                width=128, layers=6, heads=2, kv_heads=1, mlp=256, vocab=512, max_positions=4096
            ),
            "projector_hidden": 384,
            "action_queries": 32,
            "head": HeadConfig(gate_init=0.5),
        }
        sizes = {"state_dim": state_dim, "action_dim": action_dim, "horizon": horizon, "dt_s": dt_s}
        return cls(camera_names=tuple(camera_names), **sizes, **(config | changes))
