"""Policy.predict of the small model on one CPU core: ours against VLA-Adapter's own inference, same weights, in turn.

Camera frames (480x640) and a state go in, a chunk in the rig's units comes out.
"""

from __future__ import annotations

import torch

from bench.cases import HEADS, Case, cases, observation, same, statistics, tokenizer
from bench.measure import host_peak_mb, operations
from bench.naive_vla.policy import NaiveVLAPolicy
from bench.row import Row, latency_rows, row, times_us
from vla_model.policy import build_policy

ROUNDS = 100


def run() -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [line for case in cases([1, 2, 3], list(HEADS)) for line in measure(case, ROUNDS)]
    finally:
        torch.set_num_threads(threads)


def measure(case: Case, rounds: int) -> list[Row]:
    policy = build_policy(case.config("small"), statistics(), rig_text="", tokenizer=tokenizer())
    naive, seen = NaiveVLAPolicy(policy.checkpoint), observation(case)

    def ours():
        return policy.predict(seen)

    def theirs():
        return naive.predict(seen)

    same(ours(), theirs(), tolerance=0.02)  # resized images may differ by a grey level
    return [
        *latency_rows(f"predict, {case.name}", times_us(ours, theirs, rounds) / 1e3, "1.5 times as fast"),
        row(f"operations, {case.name}", operations(ours), operations(theirs), "a call", "fewer"),
        row(f"memory, {case.name}", host_peak_mb(ours), host_peak_mb(theirs), "MB", "less"),
    ]
