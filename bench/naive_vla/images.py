"""One camera image at a time, on the host: JPEG, resize, crop, normalise (openvla_utils, processing_prismatic)."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from vla_model.config import VisionConfig

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def resized(frame: np.ndarray, config: VisionConfig) -> np.ndarray:
    """uint8 (H, W, 3) -> (s, s, 3). As in the reference, a frame of the right size is neither encoded nor resized."""
    size = config.image_size
    if config.crop_stage == "before_resize":
        frame = _cut(frame, config.crop_area)
    if frame.shape[:2] != (size, size):
        if config.jpeg_quality is not None:
            frame = jpeg(frame, config.jpeg_quality)
        frame = np.asarray(Image.fromarray(frame).resize((size, size), _FILTERS[config.resize]))
    if config.crop_stage == "after_resize" and config.crop_area < 1:
        frame = _crop_and_stretch(frame, config.crop_area)
    return frame


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    """Encode (4:2:0) and decode with the fast integer transform, as TensorFlow does."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "jpeg", quality=quality, subsampling=2)
    return simplejpeg.decode_jpeg(buffer.getvalue(), fastdct=True)


def pixels(image: np.ndarray, config: VisionConfig) -> Tensor:
    """uint8 (s, s, 3) -> float32 (6, s, s): DINOv2's three normalised channels, then SigLIP's."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    channels = []
    for tower in (config.dinov2, config.siglip):
        mean, std = (torch.tensor(v)[:, None, None] for v in (tower.mean, tower.std))
        channels.append((x - mean) / std)
    return torch.vstack(channels)


def _cut(frame: np.ndarray, area: float) -> np.ndarray:
    """Our own crop: whole pixels of the source around its centre."""
    if area == 1:
        return frame
    H, W = frame.shape[:2]
    h, w = (round(side * area**0.5) for side in (H, W))
    top, left = (H - h) // 2, (W - w) // 2
    return frame[top : top + h, left : left + w]


def _crop_and_stretch(image: np.ndarray, area: float) -> np.ndarray:
    """The reference's crop: a centred square between pixels, sampled bilinearly at its corners, truncated x 255.5."""
    size = len(image)
    side = np.sqrt(np.float32(area))
    start = (1 - side) / 2 * (size - 1)
    at = (start + np.arange(size, dtype=np.float32) * side).astype(np.float32)
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, size - 1), (at - low).astype(np.float32)
    x = image.astype(np.float32) / 255
    rows = x[low] * (1 - part)[:, None, None] + x[high] * part[:, None, None]
    both = rows[:, low] * (1 - part)[:, None] + rows[:, high] * part[:, None]
    return (np.clip(both, 0, 1) * 255.5).astype(np.uint8)
