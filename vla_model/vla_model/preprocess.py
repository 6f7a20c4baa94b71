"""Camera images to the pixels that the vision towers read, on the model's device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_model.config import TowerConfig, VisionConfig


class Preprocessor:
    """Crop, resize and normalise, on the device that the images are on.

    Not a module: its constants stay float32 in a bfloat16 model, whose towers round the finished pixels, as published.
    """

    def __init__(self, config: VisionConfig):
        self.size, self.crop_area, self.mode = config.image_size, config.crop_area, config.resize
        self._towers = (config.dinov2, config.siglip)
        self._constants: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
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
        """uint8 (..., 3, s, s) -> float32 (x / 255 - mean) / std with each tower's constants."""
        if resized.device not in self._constants:
            self._constants[resized.device] = [
                _scale_and_shift(tower, resized.device) for tower in self._towers
            ]
        x = resized.float()
        dinov2, siglip = (torch.addcmul(shift, x, scale) for scale, shift in self._constants[resized.device])
        return dinov2, siglip

    def _crop(self, pixels: Tensor) -> Tensor:
        if self.crop_area == 1.0:
            return pixels
        H, W = pixels.shape[-2:]
        h, w = (round(side * self.crop_area**0.5) for side in (H, W))
        top, left = (H - h) // 2, (W - w) // 2
        return pixels[..., top : top + h, left : left + w]


@torch.inference_mode(False)
def _scale_and_shift(tower: TowerConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (tower.mean, tower.std))
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)
