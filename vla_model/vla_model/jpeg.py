"""The JPEG round trip that the reference puts every camera frame through, as its training data went through one."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg


def round_trip(frame: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode: (H, W, 3) uint8 RGB -> the same, pixel for pixel what TensorFlow gives on a CPU.

    tf.image.encode_jpeg: colour at half resolution, exact integer DCT, which is OpenCV's default, too.
    tf.io.decode_image: libjpeg's *fast* integer DCT, which neither OpenCV nor Pillow can be asked for; with the
    exact one pixels differ by up to 15 levels.
    """
    bgr = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return simplejpeg.decode_jpeg(data.data, fastdct=True)
