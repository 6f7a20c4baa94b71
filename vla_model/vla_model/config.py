"""What a model is made of: everything needed to build it, as it stands in a checkpoint's config.json.

The published quirks of VLA-Adapter (github.com/OpenHelix-Team/VLA-Adapter, commit 838a36d) are options with
names. Their defaults are the sound form, for new checkpoints; `presets.published` sets all of them as
released checkpoints need.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vla_model.grippers import Grippers


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[float, Field(gt=0)]
Triple = tuple[float, float, float]


class TowerConfig(_Section):
    """One vision transformer. `depth` counts all its blocks; the last one is neither built nor run."""

    width: int = Field(gt=0)
    depth: int = Field(ge=2)
    heads: int = Field(gt=0)
    mlp: int = Field(gt=0, description="hidden width of a block's MLP")
    registers: int = Field(0, ge=0, description="register tokens (DINOv2 only)")
    mean: Triple = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)


class VisionConfig(_Section):
    """Both towers see the same square image; DINOv2's channels come first in the fused feature."""

    image_size: int = Field(224, gt=0, description="side of the square towers' input, px")
    patch_size: int = Field(14, gt=0)
    dinov2: TowerConfig
    siglip: TowerConfig
    jpeg_quality: int | None = Field(
        None,
        ge=1,
        le=100,
        description="published: 95; each frame is encoded as JPEG and decoded first, as the training data were",
    )
    resize: Literal["bilinear", "bicubic", "lanczos3"] = Field(
        "bicubic", description="antialiased stretch to the square; 'lanczos3' is published"
    )
    crop_area: float = Field(
        1.0, gt=0, le=1, description="share of the image's area that a centred crop keeps"
    )
    crop_stage: Literal["before_resize", "after_resize"] = Field(
        "before_resize",
        description="'before_resize': whole source pixels are cut off; 'after_resize' (published): the resized "
        "image is cropped between pixels and stretched back bilinearly",
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

    type: Literal["l1", "discrete", "dual_arm"] = Field(
        "l1",
        description="'l1': regression; 'discrete': a distribution over bins for each action; 'dual_arm': regression "
        "with a stream per arm and Inter-Arm Attention",
    )
    block: Literal["base", "pro"] = Field(
        "pro",
        description="of 'l1' and 'discrete': 'pro' has its own projections per source and rotary positions; 'base' "
        "has neither, so that without `step_embedding` all actions of a chunk are equal",
    )
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
    film: bool = Field(False, description="carry the unused FiLM weights that published Pro files contain")
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
    bins: int = Field(256, ge=2, description="of 'discrete': bins per action dimension")
    decode: Literal["argmax", "expectation"] = Field(
        "argmax", description="of 'discrete': how a chunk is read off the distributions"
    )
    arm_dims: tuple[int, int] | None = Field(
        None, description="of 'dual_arm': action dimensions of the left and the right arm, in this order"
    )

    @property
    def gate_on_logits(self) -> bool:
        return self.task_gate == "logits"


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
    action_queries: int = Field(
        64, gt=0, description="published: 64; a dual_arm head gives each arm one half of them, published: 128"
    )
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
    constant_state: Literal["zero", "published"] = Field(
        "zero",
        description="what a state dimension that never changed in the data becomes: 'zero', as in training; "
        "'published': what the formula gives, -1 or, off its constant by anything, +-1, as the reference infers",
    )
    gripper_dims: tuple[int, ...] = Field(
        (),
        description="action dimensions that `gripper` converts between the model's and the rig's convention",
    )
    gripper: Literal["none", "libero", "calvin"] = Field(
        "none", description="convention of the grippers, see grippers.py"
    )
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

    @property
    def grippers(self) -> Grippers:
        return Grippers(self.gripper, self.gripper_dims)

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if len(set(self.camera_names)) != len(self.camera_names):
            raise ValueError(f"camera_names repeats a name: {list(self.camera_names)}")
        if self.llm.width % (2 * self.head.heads):
            raise ValueError(
                f"head.heads {self.head.heads} must split llm.width {self.llm.width} into even parts"
            )
        if self.head.type == "dual_arm":
            self._check_arms()
        self._check_grippers()
        return self

    def _check_grippers(self) -> None:
        dims = self.gripper_dims
        if len(set(dims)) != len(dims) or not all(0 <= dim < self.action_dim for dim in dims):
            raise ValueError(
                f"gripper_dims must be different dimensions of the action, 0 to {self.action_dim - 1}, got {dims}"
            )
        if self.gripper != "none" and not dims:
            raise ValueError(f"gripper '{self.gripper}' needs gripper_dims, such as [{self.action_dim - 1}]")
        if self.gripper == "none" and dims:
            raise ValueError(f"gripper_dims {dims} need a gripper convention: libero or calvin")

    def _check_arms(self) -> None:
        arms = self.head.arm_dims
        if arms is None or min(arms) < 1 or sum(arms) != self.action_dim:
            raise ValueError(
                f"head.arm_dims must be two counts that sum to action_dim {self.action_dim}, got {arms}"
            )
        if self.action_queries % 2 or self.query_tokens % 2:
            raise ValueError(f"a dual_arm head splits its {self.query_tokens} query tokens between two arms")
