"""Frames -> the towers' pixels on the CPU: ours against the reference's way, one camera at a time with Pillow."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.naive_vla.images import jpeg, pixels, resized
from bench.row import Row, paired_us, row
from vla_model import presets
from vla_model.config import VisionConfig
from vla_model.preprocess import Preprocessor

CAMERAS, HEIGHT, WIDTH = 3, 480, 640


def run() -> list[Row]:
    torch.set_num_threads(1)
    frames = _frames()
    rows = [
        _whole_way("published form", _vision(presets.published), frames),
        _whole_way("published form without JPEG", _vision(presets.published, jpeg_quality=None), frames),
        _whole_way("small model's form", _vision(presets.small), frames),
    ]
    return [*rows, _jpeg(frames[0]), _lanczos(frames[0])]


def _vision(preset, **changes) -> VisionConfig:
    return preset(("camera",), 7, 7, 8, 0.05).vision.model_copy(update=changes)


def _frames() -> list[np.ndarray]:
    """Smooth pictures with some sensor noise: JPEG's cost follows the content."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (CAMERAS, 24, 32, 3), np.uint8)
    smooth = [cv2.resize(c, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for c in coarse]
    return [cv2.add(s, rng.integers(0, 8, s.shape, np.uint8)) for s in smooth]


def _whole_way(name: str, config: VisionConfig, frames: list[np.ndarray]) -> Row:
    preprocess = Preprocessor(config)

    def ours() -> tuple[Tensor, Tensor]:
        images = [torch.from_numpy(preprocess.jpeg(frame)).unsqueeze(0) for frame in frames]
        return preprocess.normalize(torch.cat([preprocess.resize(image) for image in images]))

    def usual() -> Tensor:
        return torch.cat([pixels(resized(frame, config), config)[None] for frame in frames])

    with torch.inference_mode():
        mine, theirs = paired_us(ours, usual, rounds=40)
    shape = f"{CAMERAS} x {HEIGHT}x{WIDTH}"
    return row(f"preprocess {shape}, {name} (Pillow, 8 bits)", mine / 1e3, theirs / 1e3, "ms", "no slower")


def _jpeg(frame: np.ndarray) -> Row:
    preprocess = Preprocessor(_vision(presets.published))
    mine, theirs = paired_us(lambda: preprocess.jpeg(frame), lambda: jpeg(frame, 95), rounds=60)
    return row(f"JPEG round trip {HEIGHT}x{WIDTH} (Pillow)", mine / 1e3, theirs / 1e3, "ms", "no slower")


def _lanczos(frame: np.ndarray) -> Row:
    """As exact as TensorFlow: in float, which Pillow does for single planes."""
    preprocess = Preprocessor(_vision(presets.published, crop_area=1.0))
    size, image = (preprocess.size, preprocess.size), torch.from_numpy(frame).unsqueeze(0)

    def usual() -> np.ndarray:
        planes = [Image.fromarray(frame[..., c].astype(np.float32)) for c in range(3)]
        stretched = [np.asarray(plane.resize(size, Image.Resampling.LANCZOS)) for plane in planes]
        return np.clip(np.rint(np.stack(stretched)), 0, 255).astype(np.uint8)

    with torch.inference_mode():
        mine, theirs = paired_us(lambda: preprocess.resize(image), usual, rounds=60)
    return row(f"Lanczos3 {HEIGHT}x{WIDTH} (Pillow, float)", mine / 1e3, theirs / 1e3, "ms", "no slower")
