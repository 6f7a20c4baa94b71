"""Camera images to the pixels that the vision towers read, on the model's device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_model.config import TowerConfig, VisionConfig


class Preprocessor(nn.Module):
    """Crop, resize and normalise. No parameters; its constants follow the model to its device and dtype."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.size, self.crop_area, self.mode = config.image_size, config.crop_area, config.resize
        for name, tower in (("dinov2", config.dinov2), ("siglip", config.siglip)):
            scale, shift = _scale_and_shift(tower)
            self.register_buffer(f"{name}_scale", scale, persistent=False)
            self.register_buffer(f"{name}_shift", shift, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (..., H, W, 3), one size -> (DINOv2 pixels, SigLIP pixels), each (..., 3, s, s)."""
        resized = self.resize(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
        return self.normalize(resized)

    def resize(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, 3) -> uint8 (n, 3, s, s): centred crop, then an antialiased stretch to the square.

        Rounded to whole levels, as the reference does before it normalises, so that resized images may be
        kept as uint8.
        """
        pixels = self._crop(images.permute(0, 3, 1, 2))
        if pixels.shape[-2:] == (self.size, self.size):
            return pixels
        # only the CPU has a uint8 kernel (a fast one); elsewhere go through float32 and round
        source = pixels if pixels.device.type == "cpu" else pixels.float()
        resized = F.interpolate(
            source, (self.size, self.size), mode=self.mode, align_corners=False, antialias=True
        )
        return resized if resized.dtype == torch.uint8 else resized.round_().clamp_(0, 255).to(torch.uint8)

    def normalize(self, resized: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (..., 3, s, s) -> (x / 255 - mean) / std with each tower's constants."""
        x = resized.to(self.dinov2_scale.dtype)
        return (
            torch.addcmul(self.dinov2_shift, x, self.dinov2_scale),
            torch.addcmul(self.siglip_shift, x, self.siglip_scale),
        )

    def _crop(self, pixels: Tensor) -> Tensor:
        if self.crop_area == 1.0:
            return pixels
        H, W = pixels.shape[-2:]
        h, w = (round(side * self.crop_area**0.5) for side in (H, W))
        top, left = (H - h) // 2, (W - w) // 2
        return pixels[..., top : top + h, left : left + w]


def _scale_and_shift(tower: TowerConfig) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (tower.mean, tower.std))
    return (1 / (255 * std)).float(), (-mean / std).float()
