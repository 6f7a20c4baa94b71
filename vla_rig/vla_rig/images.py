"""Image messages -> (H, W, 3) uint8 RGB, without needless copies."""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from vla_rig.rig import Camera

# encoding -> (channels, cv2 conversion to RGB; None: already RGB)
_ENCODINGS = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
}


class ImageError(ValueError):
    """An image message that cannot be used; the message says why and what was expected."""


def to_rgb(message: Image | CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB. For rgb8 without row padding a view of the message, not to be written to.

    Others cost one pass. Raises ImageError.
    """
    if isinstance(message, CompressedImage):
        return _decode(message)
    if message.encoding not in _ENCODINGS:
        return _through_cv_bridge(message)
    channels, conversion = _ENCODINGS[message.encoding]
    width_bytes = message.width * channels
    if not message.width or not message.height:
        raise ImageError(f"{message.encoding} image of {message.width}x{message.height} is empty")
    if message.step < width_bytes or len(message.data) != message.step * message.height:
        raise ImageError(
            f"{message.encoding} image of {message.width}x{message.height} with step {message.step} "
            f"carries {len(message.data)} bytes, expected {max(message.step, width_bytes) * message.height}"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    image = rows[:, :width_bytes].reshape(message.height, message.width, channels)
    return image if conversion is None else cv2.cvtColor(image, conversion)


def camera_image(camera: Camera, message: Image | CompressedImage) -> np.ndarray:
    """to_rgb, and of the size that the rig file says. Raises ImageError."""
    image = to_rgb(message)
    if image.shape[:2] != (camera.height, camera.width):
        size, expected = f"{image.shape[1]}x{image.shape[0]}", f"{camera.width}x{camera.height}"
        raise ImageError(f"image is {size}, the rig file says {expected}")
    return image


def _decode(message: CompressedImage) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR) if len(message.data) else None
    if bgr is None:
        raise ImageError(
            f"compressed image (format '{message.format}', {len(message.data)} bytes) is neither JPEG nor PNG"
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


def _through_cv_bridge(message: Image) -> np.ndarray:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise ImageError(
            f"encoding '{message.encoding}' is not one of {', '.join(_ENCODINGS)}; "
            "others need the cv_bridge package, which is not installed"
        ) from None
    try:
        return CvBridge().imgmsg_to_cv2(message, "rgb8")
    except CvBridgeError as error:
        raise ImageError(f"encoding '{message.encoding}': {error}") from None
