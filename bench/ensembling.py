"""One control step of temporal ensembling: ours against ACT's all-time buffer (act: imitate_episodes.py)."""

from __future__ import annotations

import numpy as np
import torch

from bench.row import Row, paired_us, row
from vla_policy_node.ensemble import Ensembler

DIM, STEPS, DT_NS = 14, 400, 20_000_000


class ActBuffer:
    """The published way: a (T, T + H, A) tensor, find the populated rows of a column, weigh, sum."""

    def __init__(self, horizon: int) -> None:
        self.buffer = torch.zeros(STEPS, STEPS + horizon, DIM)
        self.horizon, self.t = horizon, 0

    def step(self, chunk: torch.Tensor) -> np.ndarray:
        t = self.t
        self.t = (t + 1) % STEPS
        self.buffer[t, t : t + self.horizon] = chunk
        column = self.buffer[:, t]
        column = column[torch.all(column != 0, dim=1)]
        weights = np.exp(-0.01 * np.arange(len(column)))
        weights = torch.from_numpy(weights / weights.sum()).unsqueeze(1)
        return (column * weights).sum(dim=0).numpy()


def run() -> list[Row]:
    rows = []
    for horizon in (25, 100):
        rng = np.random.default_rng(0)
        chunk = rng.normal(size=(horizon, DIM))
        tensor = torch.from_numpy(chunk).float()
        ensembler, act = Ensembler(horizon, DIM, 0.02), ActBuffer(horizon)
        clock = iter(range(10**6))

        def ours(ensembler=ensembler, chunk=chunk, clock=clock):
            t_ns = next(clock) * DT_NS
            ensembler.add(t_ns, chunk)
            return ensembler.action(t_ns)

        for _ in range(horizon):  # both pools full
            ours(), act.step(tensor)
        mine, theirs = paired_us(
            ours, lambda act=act, tensor=tensor: act.step(tensor), rounds=STEPS - horizon - 5
        )
        rows.append(row(f"ensembler step, H={horizon}, A={DIM}", mine, theirs, "us", "no slower than ACT's"))
        bytes_act, bytes_ours = act.buffer.numel() * 4, ensembler.nbytes
        rows.append(
            row(
                f"ensembler memory, H={horizon}, {STEPS} steps",
                bytes_ours / 1e6,
                bytes_act / 1e6,
                "MB",
                "O(H), not O(T)",
            )
        )
    return rows
