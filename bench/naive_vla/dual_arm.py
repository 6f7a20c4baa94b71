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
        left = self._arm("L", x["L"], x["R"], h_t, torch.cat([h_a["L"], p], dim=1))
        right = self._arm("R", x["R"], x["L"], h_t, torch.cat([h_a["R"], p], dim=1))
        return {"L": left, "R": right}

    def _arm(self, s: str, x: Tensor, other: Tensor, h_t: Tensor, a: Tensor) -> Tensor:
        def project(kind: str, z: Tensor) -> Tensor:
            return self.split(getattr(self, kind)(z))

        gate = torch.tanh(self.gating)
        inputs = {"self": x, "adap": a, "task": h_t, "inter": other}
        k, v = ({n: project(f"{kind}_{s}_{n}", z) for n, z in inputs.items()} for kind in "kv")
        q, k["self"] = self.turned(project(f"q_{s}", x), k["self"])
        _, k["inter"] = self.turned(k["inter"], k["inter"])
        o = self.attend(q, [(k[n], v[n]) for n in inputs], 2, gate)
        return getattr(self, f"ffn_{s}")(getattr(self, f"o_{s}")(o) + x)


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
