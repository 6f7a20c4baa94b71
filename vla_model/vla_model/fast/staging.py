"""Where a recorded graph finds what a call brings: one block of memory for frames and state, filled by one copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vla_model.preprocess import Preprocessor

Sizes = tuple[tuple[int, int], ...]


class Staging:
    """One block of pinned host memory and its twin on the device: a state and camera frames, side by side."""

    def __init__(self, sizes: Sizes, state_dim: int, device: torch.device):
        self.sizes = sizes
        shapes = [(height, width, 3) for height, width in sizes]
        # frames of one size lie together, so that they can be resized as one batch
        self._order = sorted(range(len(sizes)), key=lambda i: sizes[i])
        starts, end = [0] * len(sizes), _aligned(4 * state_dim)
        for i in self._order:
            starts[i], end = end, end + math.prod(shapes[i])
        self._host = torch.zeros(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._device = torch.zeros(end, dtype=torch.uint8, device=device)
        memory = self._host.numpy()
        self._host_state = memory[: 4 * state_dim].view(np.float32)
        self._host_frames = [
            memory[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(starts, shapes, strict=True)
        ]
        self.state = self._device[: 4 * state_dim].view(torch.float32).unsqueeze(0)
        self._batches = []
        for size in dict.fromkeys(sizes[i] for i in self._order):
            cameras = [i for i in self._order if sizes[i] == size]
            start, length = starts[cameras[0]], len(cameras) * math.prod(shapes[cameras[0]])
            self._batches.append(self._device[start : start + length].view(len(cameras), *size, 3))
        places = torch.tensor(np.argsort(self._order), device=device)
        self._places = None if self._order == sorted(self._order) else places

    def fill(self, frames: Sequence[np.ndarray], state: np.ndarray) -> None:
        """Frames (H, W, 3) uint8 of these sizes and a state (S,) float32, on their way to the device."""
        np.copyto(self._host_state, state)
        for place, frame in zip(self._host_frames, frames, strict=True):
            np.copyto(place, frame)
        self._device.copy_(self._host, non_blocking=True)

    def resized(self, preprocess: Preprocessor) -> Tensor:
        """uint8 (N, 3, s, s), cameras in their own order."""
        resized = torch.cat([preprocess.resize(batch) for batch in self._batches])
        return resized if self._places is None else resized.index_select(0, self._places)


def _aligned(size: int) -> int:
    """Up to a multiple of 256 bytes."""
    return -(-size // 256) * 256
