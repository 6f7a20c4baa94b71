"""Camera images to the pixels that the vision towers read, on the images' device.

frame -> jpeg (host, published) -> stretch to the square -> crop (published) -> normalise, once per tower
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vla_model.config import TowerConfig, VisionConfig
from vla_model.jpeg import round_trip
from vla_model.resampling import Stretch, crop_and_resize, crop_grid


class Preprocessor:
    """Everything between a camera frame and the towers. After each step pixels are whole levels, as in the reference.

    Not a module: its constants stay float32 in a bfloat16 model, whose towers round the finished pixels, as
    published. The first call with a frame size makes them, once per device; on CUDA all steps after `jpeg` can then
    be captured in a graph.
    """

    def __init__(self, config: VisionConfig):
        self.size = config.image_size
        self._config, self._stretch = config, Stretch(config.image_size, config.resize)
        self._grids: dict[torch.device, Tensor] = {}
        self._constants: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (..., H, W, 3), one size, after `jpeg` -> (DINOv2 pixels, SigLIP pixels), each (..., 3, s, s)."""
        resized = self.resize(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
        return self.normalize(resized)

    def jpeg(self, frame: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> the same, on the host: the published JPEG round trip, if the config has it.

        A frame of the model's own size is left alone, as in the reference. Threads may call it side by side.
        """
        if self._config.jpeg_quality is None or frame.shape[:2] == (self.size, self.size):
            return frame
        return round_trip(frame, self._config.jpeg_quality)

    def resize(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, 3) -> uint8 (n, 3, s, s): `stretch`, then `crop`."""
        return self.crop(self.stretch(images))

    def stretch(self, images: Tensor) -> Tensor:
        """uint8 (n, H, W, 3) -> uint8 (n, 3, s, s): the whole picture, or the part that `crop_stage` says.

        Training keeps these: augmentation draws its own crops where serving takes the centre.
        """
        return self._stretch(self._cut(images))

    def crop(self, stretched: Tensor) -> Tensor:
        """uint8 (..., 3, s, s) -> the same: the published centred crop, if the config has it, stretched back."""
        if self.late_crop_area == 1.0:
            return stretched
        if stretched.device not in self._grids:
            self._grids[stretched.device] = _centre_grid(self.late_crop_area, self.size, stretched.device)
        cropped = crop_and_resize(stretched.flatten(0, -4), self._grids[stretched.device])
        return cropped.view(stretched.shape)

    def normalize(self, resized: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (..., 3, s, s) -> float32 (x / 255 - mean) / std with each tower's constants."""
        if resized.device not in self._constants:
            towers = (self._config.dinov2, self._config.siglip)
            self._constants[resized.device] = [_scale_and_shift(tower, resized.device) for tower in towers]
        x = resized.float()
        dinov2, siglip = (torch.addcmul(shift, x, scale) for scale, shift in self._constants[resized.device])
        return dinov2, siglip

    @property
    def late_crop_area(self) -> float:
        """Share of the area that `crop` keeps; 1 when there is no crop after the stretch."""
        return self._config.crop_area if self._config.crop_stage == "after_resize" else 1.0

    @property
    def stretch_identity(self) -> tuple:
        """All settings that decide what `jpeg` and `stretch` make of a frame."""
        early = self._config.crop_area if self.late_crop_area == 1.0 else 1.0
        return self.size, self._config.resize, self._config.jpeg_quality, early

    def _cut(self, images: Tensor) -> Tensor:
        """The centred crop of whole source pixels (..., H, W, 3), where the config crops first."""
        if self._config.crop_stage == "after_resize" or self._config.crop_area == 1.0:
            return images
        H, W = images.shape[-3:-1]
        h, w = (round(side * self._config.crop_area**0.5) for side in (H, W))
        top, left = (H - h) // 2, (W - w) // 2
        return images[..., top : top + h, left : left + w, :]


@torch.inference_mode(False)  # a tensor that is kept must not depend on who asked first
def _centre_grid(share: float, size: int, device: torch.device) -> Tensor:
    margin = (1 - share**0.5) / 2
    return crop_grid([(margin, margin)], share, size).to(device)


@torch.inference_mode(False)
def _scale_and_shift(tower: TowerConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (tower.mean, tower.std))
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)
