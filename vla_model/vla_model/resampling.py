"""Resampling of image batches as TensorFlow does it: an antialiased stretch, and crops stretched back to size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_TORCH_MODES = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos3": "lanczos"}


class Stretch:
    """Antialiased stretch of whole images to a square: uint8 (n, H, W, 3) -> uint8 (n, 3, s, s).

    Pixel centres at half-integers, the kernel widened by the ratio, its weights renormalised at the borders:
    tf.image.resize(antialias=True) and Pillow's resize. Values are rounded half-even and clipped at the end.

    Away from the CPU it is two matrix products, rows and columns. Their matrices are made by the first call with
    a size and kept per length and device: later calls can be captured in a CUDA graph.
    """

    def __init__(self, size: int, mode: str):
        self.size, self._mode = size, _TORCH_MODES[mode]
        self._matrices: dict[tuple[int, torch.device], Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2)
        if pixels.shape[-2:] == (self.size, self.size):
            return pixels
        return self.on_cpu(pixels) if pixels.device.type == "cpu" else self.by_matrices(pixels)

    def on_cpu(self, pixels: Tensor) -> Tensor:
        """uint8 (n, 3, H, W) -> uint8 (n, 3, s, s) with torch's own kernels."""
        if self._mode == "bilinear":
            return _interpolate(pixels, self.size, self.size, self._mode)
        # torch's uint8 kernel (and Pillow's) clips between its two passes, which cuts the overshoot of these modes:
        # wrong by up to 29 levels (bicubic) and 55 levels (lanczos3) at hard edges
        return _levels(_interpolate(pixels.float(), self.size, self.size, self._mode))

    def by_matrices(self, pixels: Tensor) -> Tensor:
        """The same on any device."""
        H, W = pixels.shape[-2:]
        rows, columns = self._matrix(H, pixels.device), self._matrix(W, pixels.device)
        exact = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return _levels(rows @ (exact @ columns.T))

    @torch.inference_mode(False)  # a tensor that is kept must not depend on who asked first
    def _matrix(self, length: int, device: torch.device) -> Tensor:
        """(s, length): row i holds the weights of output i. What torch's kernel makes of a unit matrix."""
        if (length, device) not in self._matrices:
            unit = torch.eye(length).view(1, 1, length, length)
            self._matrices[length, device] = _interpolate(unit, self.size, length, self._mode)[0, 0].to(
                device
            )
        return self._matrices[length, device]


def crop_grid(corners: Sequence[tuple[float, float]], share: float, size: int) -> Tensor:
    """Sampling grid (n, s, s, 2) of one square crop per image, for `crop_and_resize`.

    A crop keeps `share` of the area; its corner (top, left) is given as a fraction of the side. Corners are
    aligned: the crop's outermost samples lie on its edges, output i at pixel top (s - 1) + i sqrt(share).
    """
    step = 2 * share**0.5 * torch.arange(size, dtype=torch.float64) / (size - 1)
    top, left = (2 * torch.tensor(corners, dtype=torch.float64).T.unsqueeze(-1) + step - 1).float()
    return torch.stack(torch.broadcast_tensors(left.unsqueeze(1), top.unsqueeze(2)), dim=-1)


def crop_and_resize(images: Tensor, grid: Tensor) -> Tensor:
    """uint8 (n, 3, s, s) -> the crops of `grid` (1 or n, s, s, 2), bilinear, as uint8 (n, 3, s, s).

    tf.image.crop_and_resize on x / 255, and back as tf.image.convert_image_dtype does: x * 255.5, cut off.
    """
    grid = grid.expand(len(images), -1, -1, -1)
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled.mul_(255.5 / 255).to(torch.uint8)


def _interpolate(pixels: Tensor, height: int, width: int, mode: str) -> Tensor:
    return F.interpolate(pixels, (height, width), mode=mode, align_corners=False, antialias=True)


def _levels(pixels: Tensor) -> Tensor:
    return pixels.round_().clamp_(0, 255).to(torch.uint8)
