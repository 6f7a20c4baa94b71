"""The least time that one predict can take on a GPU: FLOPs and bytes counted from a config, against the GPU's peaks.

    python -m bench.roofline            full published size, 1 to 3 cameras

Counted is what the chunk depends on and nothing else: no last tower blocks, no output matrix, no query or stop token
that nobody reads, no stem; attention within its causal mask. Weights are read once; of the activations those count
that go from part to part, since what stays within a part can stay in the chip's cache. The parts follow one
another, so their bounds add up. A measured time can only be longer.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from vla_model import presets
from vla_model.config import ModelConfig, TowerConfig

BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Peaks:
    """Dense bfloat16 products with float32 sums, and main memory, per second."""

    flops: float
    bytes: float


# NVIDIA's data sheets, SXM forms (nvidia.com/en-us/data-center/h100, /h200); half of the figures "with sparsity"
PEAKS = {
    "NVIDIA H100 80GB HBM3": Peaks(989e12, 3.35e12),
    "NVIDIA H200": Peaks(989e12, 4.8e12),
}


@dataclass(frozen=True)
class Work:
    """Of one part of the model: FLOPs (a product and a sum are two), weights, numbers read and written."""

    flops: int
    weights: int
    activations: int

    def bytes(self, dtype: str = "bfloat16") -> int:
        return (self.weights + self.activations) * BYTES[dtype]

    def bound_ms(self, peaks: Peaks, dtype: str = "bfloat16") -> float:
        return 1e3 * max(self.flops / peaks.flops, self.bytes(dtype) / peaks.bytes)


def work(config: ModelConfig, prompt_tokens: int = 42) -> dict[str, Work]:
    """Work of each part, in the order in which they run."""
    return {
        "towers": towers(config),
        "projector": projector(config),
        "language model": language_model(config, prompt_tokens),
        "head": head(config),
    }


def bound_ms(parts: dict[str, Work], peaks: Peaks) -> float:
    return sum(part.bound_ms(peaks) for part in parts.values())


def towers(config: ModelConfig) -> Work:
    vision, N = config.vision, len(config.camera_names)
    dinov2 = _tower(config, vision.dinov2, prefix=1 + vision.dinov2.registers, scales=2)
    siglip = _tower(config, vision.siglip, prefix=0, scales=0)
    pixels = 3 * vision.image_size**2
    return Work(
        flops=N * (dinov2.flops + siglip.flops),
        weights=dinov2.weights + siglip.weights,
        activations=N * (pixels + vision.patches * vision.width),
    )


def projector(config: ModelConfig) -> Work:
    width, hidden, D, P = config.vision.width, config.projector_hidden, config.llm.width, config.patches
    products = width * hidden + hidden * D + D * D
    return Work(2 * P * products, products + hidden + 2 * D, P * (width + D))


def language_model(config: ModelConfig, prompt_tokens: int) -> Work:
    """Prompt, patches and the queries that are read; hidden states of all layers go to the head."""
    llm, D = config.llm, config.llm.width
    queries = config.action_queries - config.shifted_slices
    S = config.patches + prompt_tokens + queries
    kv = llm.kv_heads * (D // llm.heads)
    products = 2 * D * D + 2 * D * kv + 3 * D * llm.mlp
    attention = 2 * D * S * (S + 1)  # scores and values, each 2 D per pair, half the pairs and the diagonal
    states = (llm.layers + 1) * (config.task_tokens + config.query_tokens) * D
    return Work(
        flops=llm.layers * (2 * S * products + attention),
        weights=llm.layers * (products + D + 2 * kv + 2 * D) + D + (prompt_tokens + queries) * D,
        activations=config.patches * D + states,
    )


def head(config: ModelConfig) -> Work:
    D, H, layers = config.llm.width, config.horizon, config.llm.layers
    rows, K_t, K_a = H, config.task_tokens, config.query_tokens + 1
    head = config.head
    arms, sources, outputs = 1, 3, config.action_dim * (head.bins if head.type == "discrete" else 1)
    if head.type == "dual_arm":
        arms, sources, K_a = 2, 4, config.query_tokens // 2 + 1
    own = 3 + 2 * (sources - 2)  # q, o and the FFN, and k and v of each source that has the chunk's length
    keys = (sources - 2) * H + K_a + K_t
    block = 2 * D * D * (own * H + 2 * (K_a + K_t)) + 4 * D * H * keys
    linear = D * D + D
    projections = 2 * sources if head.block == "pro" or arms == 2 else 2
    weights = layers * (arms * ((3 + projections) * linear + 2 * D) + 1)
    weights += arms * 2 * D + D * outputs + outputs + (config.state_dim + 1) * D + linear
    # the stem is a constant of the weights: one row, or one for each step
    weights += arms * H * D if head.step_embedding else D * (arms == 1)
    states = layers * (config.task_tokens + config.query_tokens) * D
    return Work(
        flops=layers * arms * block + 2 * D * outputs * rows + 2 * D * (config.state_dim + D),
        weights=weights,
        activations=states + H * config.action_dim,
    )


def _tower(config: ModelConfig, tower: TowerConfig, prefix: int, scales: int) -> Work:
    """One image through all blocks but the last."""
    w, patches, blocks = tower.width, config.vision.patches, tower.depth - 1
    n = patches + prefix
    embedding = 3 * config.vision.patch_size**2 * w
    products = 4 * w * w + 2 * w * tower.mlp
    return Work(
        flops=2 * patches * embedding + blocks * (2 * n * products + 4 * w * n * n),
        weights=embedding + w + n * w + blocks * (products + 5 * w + tower.mlp + (4 + scales) * w),
        activations=0,
    )


def table(parts: dict[str, Work], title: str) -> Table:
    """FLOPs, bytes and bounds of each part and in all, bfloat16."""
    out = Table(title=title, title_style="")
    for column in ("part", "GFLOP", "MB", *(f"{name}, ms" for name in PEAKS)):
        out.add_column(column, justify="left" if column == "part" else "right")
    for name, part in parts.items():
        bounds = (f"{part.bound_ms(peaks):.3f}" for peaks in PEAKS.values())
        out.add_row(name, f"{part.flops / 1e9:.1f}", f"{part.bytes() / 1e6:.1f}", *bounds)
    flops, size = (sum(x) for x in zip(*((p.flops, p.bytes()) for p in parts.values()), strict=True))
    bounds = (f"{bound_ms(parts, peaks):.3f}" for peaks in PEAKS.values())
    out.add_row("all", f"{flops / 1e9:.1f}", f"{size / 1e6:.1f}", *bounds)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompt-tokens", type=int, default=42, help="length of the prompt (default: 42)")
    args = parser.parse_args()
    for cameras in (1, 2, 3):
        names = tuple(f"camera_{i}" for i in range(cameras))
        config = presets.published(names, 14, 14, 25, 0.02)
        Console(width=100).print(
            table(work(config, args.prompt_tokens), f"VLA-Adapter Pro, {cameras} camera(s)")
        )


if __name__ == "__main__":
    main()
