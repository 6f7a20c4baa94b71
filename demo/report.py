"""What happened, in figures: read from the episode files and the status messages, nothing assumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla_msgs.msg import PolicyStatus
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems as problems_of


@dataclass
class Take:
    """One recorded episode and what was seen while it was recorded."""

    title: str
    path: Path
    wall_s: float
    max_reward: int
    last_reward: int
    success: bool
    policy: PolicyStatus | None = None


@dataclass
class Report:
    """Collects the demo's figures; `text()` is what the user reads."""

    takes: list[Take] = field(default_factory=list)
    transports: dict[str, str] = field(default_factory=dict)
    training: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = ["", "Episodes"]
        for take in self.takes:
            lines += _episode(take, self.problems)
        lines += ["", "Training", *(f"  {line}" for line in self.training)]
        for take in self.takes:
            if take.policy is not None:
                lines += ["", f"Policy ({take.title})", *_policy(take.policy)]
        lines += ["", "Transport", *(f"  {name}: {value}" for name, value in self.transports.items())]
        self.problems += [
            f"{name} uses default transports" for name, v in self.transports.items() if v == "default"
        ]
        lines += ["", *(f"PROBLEM: {p}" for p in self.problems)] if self.problems else []
        return "\n".join(lines)


def _episode(take: Take, problems: list[str]) -> list[str]:
    problems += [f"{take.path.name}: {p}" for p in problems_of(take.path)]
    with EpisodeReader(take.path) as episode:
        rows, rate_hz = len(episode), episode.control_rate_hz
        lost = {name: lost_frames(episode, name) for name in episode.camera_names}
        stale = int((~episode.fresh).any(axis=1).sum())
        gated = sum(bool(text) for text in episode.interventions)
    frames = sum(got for got, _ in lost.values())
    missing = sum(gone for _, gone in lost.values())
    if missing:
        problems.append(
            f"{take.path.name}: camera frames lost: { ({n: g for n, (_, g) in lost.items() if g}) }"
        )
    held = "held: success" if take.success else "not held"
    size_mb = take.path.stat().st_size / 1e6
    return [
        f"  {take.title}: {take.path.name}, {rows} rows = {rows / rate_hz:.1f} s at {rate_hz:g} Hz, "
        f"recorded in {take.wall_s:.0f} s, {size_mb:.0f} MB",
        f"    camera frames {frames}, lost {missing}; rows with a stale stream {stale}, changed by the gate {gated}",
        f"    task reward reached {take.max_reward} of 4 ({held}); {take.last_reward} at the end",
    ]


def lost_frames(episode: EpisodeReader, camera: str) -> tuple[int, int]:
    """(frames in the file, frames missing between the first and the last), by the frames' own stamps.

    The simulator stamps frames at exact multiples of the camera's period, so a gap is a lost frame.
    """
    column = episode.stream_names.index(camera)
    stamps = np.unique(episode.stream_stamps_ns[:, column])
    if len(stamps) < 2:
        return len(stamps), 0
    gaps = np.diff(stamps)
    period = gaps.min()
    return len(stamps), int(np.round(gaps / period).sum() - len(gaps))


def training_line(record: dict) -> str:
    """One line out of a checkpoint's training.json."""
    losses = np.array(record["losses"])
    tail = max(1, len(losses) // 50)
    speed = len(losses) / record["seconds"]
    return (
        f"{len(losses)} of {record['settings']['steps']} steps in {record['seconds']:.0f} s ({speed:.0f} a second); "
        f"L1 loss, normalised: {losses[:tail].mean():.3f} -> {losses[-tail:].mean():.3f}"
    )


def _policy(status: PolicyStatus) -> list[str]:
    interventions = ", ".join(status.interventions_by_kind) or "none"
    return [
        f"  checkpoint {status.checkpoint}",
        f"  inference p50 {status.inference_p50_ms:.0f} ms, p95 {status.inference_p95_ms:.0f} ms, "
        f"max {status.inference_max_ms:.0f} ms; {status.inferences} chunks, {status.inferences_skipped} skipped",
        f"  ensembling p50 {status.ensemble_p50_ms:.2f} ms; {status.commands} commands; gate: {interventions}",
    ]
