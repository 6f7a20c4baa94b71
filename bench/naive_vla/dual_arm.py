"""The dual-arm head of the public derivatives: one arm after the other, task keys and values made for each arm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.naive_vla.attention import NaiveBlock, ffn
from bench.naive_vla.head import ProprioProjector
from vla_model.config import HeadConfig, ModelConfig

ARMS = ("L", "R")


class DualArmBlock(NaiveBlock):
    """Both arms' streams; x_o, the other arm's, is its state before the block."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__(width, config)
        for s in ARMS:
            setattr(self, f"ffn_{s}", ffn(width))
            for name in (f"q_{s}", f"o_{s}"):
                setattr(self, name, nn.Linear(width, width))
            for source in ("self", "task", "adap", "inter"):
                for kind in ("k", "v"):
                    setattr(self, f"{kind}_{s}_{source}", nn.Linear(width, width))
        self.gating = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: dict[str, Tensor], h_t: Tensor, h_a: dict[str, Tensor], p: Tensor
    ) -> dict[str, Tensor]:
        gate, table = torch.tanh(self.gating), self.rope(x["L"].shape[1], x["L"])
        a = {s: torch.cat([h_a[s], p], dim=1) for s in ARMS}
        outputs = {}
        for s, other in zip(ARMS, reversed(ARMS), strict=True):
            sources = {"self": x[s], "adap": a[s], "task": h_t, "inter": x[other]}
            outputs[s] = self._attended(s, sources, gate, table)
        return {s: getattr(self, f"ffn_{s}")(outputs[s] + x[s]) for s in ARMS}

    def _attended(
        self, s: str, sources: dict[str, Tensor], gate: Tensor, table: tuple[Tensor, Tensor]
    ) -> Tensor:
        def project(name: str, z: Tensor) -> Tensor:
            return self.split(getattr(self, name)(z))

        k, v = ({n: project(f"{kind}_{s}_{n}", z) for n, z in sources.items()} for kind in "kv")
        q, k["self"] = self.turned(project(f"q_{s}", sources["self"]), k["self"], table)
        _, k["inter"] = self.turned(k["inter"], k["inter"], table)
        o = self.attend(q, [(k[n], v[n]) for n in sources], 2, gate)
        return getattr(self, f"o_{s}")(o)


class DualArmHead(nn.Module):
    """All hidden states (B, layers + 1, tokens, D) and state (B, S) to actions (B, T, left then right)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, head = config.llm.width, config.head
        self.task_tokens, self.T, self.D = config.task_tokens, config.horizon, D
        self.proprio_projector = ProprioProjector(config.state_dim, D)
        self.blocks = nn.ModuleList(DualArmBlock(D, head) for _ in range(config.llm.layers))
        for s, dim in zip(ARMS, head.arm_dims, strict=True):
            setattr(self, f"layer_norm_{s}", nn.LayerNorm(D))
            setattr(self, f"fc2_{s}", nn.Linear(D, dim))
        self.step_embedding = nn.Parameter(torch.zeros(2, self.T, D)) if head.step_embedding else None

    def forward(self, states: Tensor, proprio: Tensor) -> Tensor:
        p = self.proprio_projector(proprio).unsqueeze(1)
        h_t, rest = states[:, :, : self.task_tokens], states[:, :, self.task_tokens :]
        half = rest.shape[2] // 2
        h_a = {"L": rest[:, :, :half], "R": rest[:, :, half:]}
        x = {
            s: torch.zeros(len(states), self.T, self.D, dtype=states.dtype, device=states.device)
            for s in ARMS
        }
        if self.step_embedding is not None:
            x = {s: x[s] + self.step_embedding[i] for i, s in enumerate(ARMS)}
        for i, block in enumerate(self.blocks):
            x = block(x, h_t[:, i + 1], {s: h[:, i + 1] for s, h in h_a.items()}, p)
        out = [getattr(self, f"fc2_{s}")(getattr(self, f"layer_norm_{s}")(x[s])) for s in ARMS]
        return torch.cat(out, dim=-1)
