"""The ten statistics of each feature that LeRobot keeps: min, max, mean, std, count and five quantiles.

Images are counted in histograms of 256 levels, so their quantiles are exact for the pixels looked at: about n^0.75
frames of an episode, at least 100, thinned to about 150 pixels a side (as in lerobot, datasets/compute_stats.py).
"""

from __future__ import annotations

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_SIDE = 150
_FRAMES = 100


def of_vectors(values: np.ndarray) -> dict[str, list]:
    """Statistics of (T, D) values."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    columns = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    columns |= {name: np.quantile(values, q, axis=0) for name, q in QUANTILES.items()}
    return {name: column.tolist() for name, column in columns.items()} | {"count": [len(values)]}


def sampled_frames(frames: int) -> set[int]:
    """Which frames of an episode to look at."""
    wanted = min(frames, max(_FRAMES, round(frames**0.75)))
    return set(np.linspace(0, frames - 1, wanted).round().astype(int).tolist())


class ImageStatistics:
    """Statistics of RGB frames, as values from 0 to 1 of shape (3, 1, 1)."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.frames = 0

    def add(self, frame: np.ndarray) -> None:
        """Count one frame (H, W, 3) uint8."""
        stride = max(1, round(max(frame.shape[:2]) / _SIDE))
        pixels = frame[::stride, ::stride].reshape(-1, 3)
        for channel in range(3):
            self.counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        self.frames += 1

    def merge(self, other: ImageStatistics) -> None:
        self.counts += other.counts
        self.frames += other.frames

    def result(self) -> dict[str, list]:
        levels = np.arange(256) / 255
        total = self.counts.sum(1)
        mean = self.counts @ levels / total
        std = np.sqrt(np.maximum(self.counts @ levels**2 / total - mean**2, 0))
        present = self.counts > 0
        columns = {
            "min": levels[present.argmax(1)],
            "max": levels[255 - present[:, ::-1].argmax(1)],
            "mean": mean,
            "std": std,
        }
        share = self.counts.cumsum(1) / total[:, None]
        columns |= {name: levels[(share >= q).argmax(1)] for name, q in QUANTILES.items()}
        return {name: column.reshape(3, 1, 1).tolist() for name, column in columns.items()} | {
            "count": [self.frames]
        }
