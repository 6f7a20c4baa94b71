"""The models that inference is measured on: 1 to 3 cameras, three heads, random weights, in two sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from tokenizers import Tokenizer

from vla_model import presets
from vla_model.config import HeadConfig, ModelConfig
from vla_model.policy import Observation
from vla_model.tokenizer import build_tokenizer

HEADS = {"base": "base", "pro": "Pro", "dual_arm": "dual-arm"}  # and how tables call them
STATE_DIM, ACTION_DIM, HORIZON, DT_S = 14, 14, 25, 0.02  # ALOHA
INSTRUCTION = "transfer the cube to the left arm"
HEIGHT, WIDTH = 480, 640


@dataclass(frozen=True)
class Case:
    cameras: int
    head: str

    @property
    def name(self) -> str:
        return f"{HEADS[self.head]}, {self.cameras} camera{'s' * (self.cameras > 1)}"

    def config(self, size: str) -> ModelConfig:
        """'small': the sound form on a CPU. 'full': the published form and size, split by the number of cameras.

        Without the published JPEG round trip, which costs the host the same in ours and theirs.
        """
        names = tuple(f"camera_{i}" for i in range(self.cameras))
        rig = (names, STATE_DIM, ACTION_DIM, HORIZON, DT_S)
        options = {"block": self.head}
        if self.head == "dual_arm":
            options = {"type": "dual_arm", "arm_dims": (ACTION_DIM // 2, ACTION_DIM // 2)}
        if size == "small":
            return presets.small(*rig, head=HeadConfig(gate_init=0.5, **options))
        head = presets.published_head(gate_init=0.5, **options)
        queries = 128 if self.head == "dual_arm" else 64
        config = presets.published(*rig, head=head, action_queries=queries, fixed_task_tokens=None)
        vision = config.vision.model_copy(update={"jpeg_quality": None})
        return config.model_copy(update={"vision": vision})


def cases(cameras: list[int], heads: list[str]) -> Iterator[Case]:
    return (Case(n, head) for head in heads for n in cameras)


def observation(case: Case, seed: int = 0) -> Observation:
    """Smooth random frames 480x640 and a state."""
    rng = np.random.default_rng(seed)
    images = {
        f"camera_{i}": cv2.resize(
            rng.integers(0, 256, (12, 16, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        for i in range(case.cameras)
    }
    return Observation(images, rng.uniform(-1, 1, STATE_DIM), INSTRUCTION, stamp_ns=0)


def tokenizer() -> Tokenizer:
    """Splits the instruction about as Qwen's own does."""
    return build_tokenizer([INSTRUCTION])


def statistics() -> dict:
    """Bounds of [-1, 1]: units are normalised ones."""

    def bounds(n: int) -> dict:
        low, high = [-1.0] * n, [1.0] * n
        return {"min": low, "max": high, "q01": low, "q99": high}

    return {"bench": {"action": bounds(ACTION_DIM), "proprio": bounds(STATE_DIM)}}


def same(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """RuntimeError unless both compute the same chunk: a benchmark of something else is worth nothing."""
    error = float(np.abs(ours - theirs).max())
    if not error <= tolerance:
        raise RuntimeError(f"ours and the naive model differ by {error:.3g}, more than {tolerance:.3g}")
