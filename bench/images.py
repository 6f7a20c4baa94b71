"""Image message -> (H, W, 3) RGB array: ours against the usual ways of doing it in Python."""

from __future__ import annotations

import array
import io

import cv2
import numpy as np
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image

from bench.row import Row, paired_us, row
from vla_rig.images import to_rgb

HEIGHT, WIDTH = 480, 640


def _message(encoding: str, pixels: np.ndarray) -> Image:
    channels = pixels.shape[2]
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=WIDTH * channels)
    message.data = array.array("B", pixels.tobytes())
    return message


def _copied(message: Image, channels: int) -> np.ndarray:
    """bytes() of the field, an array of it, channels swapped with a slice: what hand-written nodes do."""
    pixels = np.frombuffer(bytes(message.data), np.uint8).reshape(HEIGHT, WIDTH, channels)
    return pixels.copy() if message.encoding == "rgb8" else np.ascontiguousarray(pixels[..., 2::-1])


def run() -> list[Row]:
    rng = np.random.default_rng(0)
    rows = []
    for encoding, channels, goal in (
        ("rgb8", 3, "no copy"),
        ("bgr8", 3, "one pass"),
        ("bgra8", 4, "one pass"),
    ):
        message = _message(encoding, rng.integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8))
        ours, usual = paired_us(lambda m=message: to_rgb(m), lambda m=message, c=channels: _copied(m, c))
        rows.append(row(f"image {encoding} 480x640 (copy, slice)", ours, usual, "us", goal))
    smooth = cv2.resize(
        rng.integers(0, 256, (12, 16, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    data = cv2.imencode(".jpg", smooth)[1].tobytes()
    jpeg = CompressedImage(format="jpeg", data=array.array("B", data))
    ours, usual = paired_us(
        lambda: to_rgb(jpeg),
        lambda: np.asarray(PillowImage.open(io.BytesIO(bytes(jpeg.data))).convert("RGB")),
    )
    rows.append(row("image JPEG 480x640 (Pillow)", ours, usual, "us", "no slower"))
    return rows
