"""The least time that one predict can take on a GPU: FLOPs and bytes counted from a config, against the GPU's peaks.

    python -m bench.roofline            full published size, 1 to 3 cameras, three heads

Counted is what our model computes: no last tower blocks, no output matrix, no query or stop token that nobody reads,
no stem; attention within its causal mask. Weights are read once; of the activations those count
that go from part to part, since what stays within a part can stay in the chip's cache. The parts follow one
another, so their bounds add up. A measured time can only be longer.
"""

from __future__ import annotations

import argparse
from dataclasses import astuple, dataclass

from rich.console import Console
from rich.table import Table

from bench.cases import HEADS, cases
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
    states = llm.layers * (config.task_tokens + config.query_tokens) * D
    return Work(
        flops=llm.layers * (2 * S * products + attention),
        weights=llm.layers * (products + D + 2 * kv + 2 * D) + D + (prompt_tokens + queries) * D,
        activations=config.patches * D + states,
    )


def head(config: ModelConfig) -> Work:
    """State token, blocks, output. The stem is a constant of the weights: one row, or one for each step."""
    head, D, H = config.head, config.llm.width, config.horizon
    two = head.type == "dual_arm"
    arms, queries = (2, config.query_tokens // 2 + 1) if two else (1, config.query_tokens + 1)
    outputs = config.action_dim * (head.bins if head.type == "discrete" else 1)
    lengths = [H, queries, config.task_tokens, *[H] * two]  # of the sources: chunk, queries, task, other arm
    sets = len(lengths) if two or head.block == "pro" else 1  # of k and v projections
    linear = D * D + D
    block = 2 * D * D * (3 * H + 2 * sum(lengths)) + 4 * D * H * sum(lengths)  # three: q, o and the FFN's
    weights = config.llm.layers * (arms * ((3 + 2 * sets) * linear + 2 * D) + 1)
    weights += arms * 2 * D + D * outputs + outputs + (config.state_dim + 1) * D + linear
    weights += arms * H * D if head.step_embedding else D * (not two)
    states = config.llm.layers * (config.task_tokens + config.query_tokens) * D
    return Work(
        flops=config.llm.layers * arms * block + 2 * D * (H * outputs + config.state_dim + D),
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


def lines(parts: dict[str, Work]) -> list[list[str]]:
    """A head line, then FLOPs, bytes and bounds of each part and of all, in bfloat16."""
    whole = Work(*(sum(numbers) for numbers in zip(*map(astuple, parts.values()), strict=True)))
    out = [["part", "GFLOP", "MB", *(f"{name}, ms" for name in PEAKS)]]
    for name, part in (parts | {"all": whole}).items():
        own = parts if name == "all" else {name: part}
        bounds = (f"{bound_ms(own, peaks):.3f}" for peaks in PEAKS.values())
        out.append([name, f"{part.flops / 1e9:.1f}", f"{part.bytes() / 1e6:.1f}", *bounds])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompt-tokens", type=int, default=42, help="length of the prompt (default: 42)")
    args = parser.parse_args()
    for case in cases([1, 2, 3], list(HEADS)):
        header, *rows = lines(work(case.config("full"), args.prompt_tokens))
        table = Table(*header, title=f"VLA-Adapter {case.name}", title_style="")
        for line in rows:
            table.add_row(*line)
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
