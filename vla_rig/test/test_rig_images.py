"""Image messages to RGB."""

import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from vla_rig.images import ImageError, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
PIXELS = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "rgba8": np.concatenate([RGB, RGB[..., :1]], 2),
    "bgra8": np.concatenate([RGB[..., ::-1], RGB[..., :1]], 2),
    "mono8": RGB[..., :1],
}


def message(encoding: str, pixels: np.ndarray, padding: int = 0) -> Image:
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    data = array.array("B", rows.tobytes())
    return Image(height=height, width=width, encoding=encoding, step=rows.shape[1], data=data)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", PIXELS)
def test_every_encoding_gives_the_same_rgb(encoding, padding):
    image = to_rgb(message(encoding, PIXELS[encoding], padding))
    expected = np.repeat(RGB[..., :1], 3, 2) if encoding == "mono8" else RGB
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_rgb8_is_a_view_of_the_message():
    sent = message("rgb8", RGB)
    assert np.shares_memory(to_rgb(sent), np.frombuffer(sent.data, np.uint8))


def smooth() -> np.ndarray:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (48, 1)), np.tile(ramp[::-1], (48, 1)), np.full((48, 64), 90, np.uint8)], 2
    )


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 12)])
def test_compressed_images(suffix, tolerance):
    data = cv2.imencode(suffix, cv2.cvtColor(smooth(), cv2.COLOR_RGB2BGR))[1].tobytes()
    image = to_rgb(CompressedImage(format=suffix[1:], data=data))
    assert np.abs(image.astype(int) - smooth()).max() <= tolerance


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xd8\xff\xe0 no more"])
def test_garbage_is_not_an_image(data):
    with pytest.raises(ImageError, match=r"jpeg.*neither JPEG nor PNG"):
        to_rgb(CompressedImage(format="jpeg", data=data))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height": 7}, "expected 105"),
        ({"width": 6}, "expected 108"),
        ({"step": 10}, "step 10"),
        ({"height": 0}, "empty"),
        ({"width": 0}, "empty"),
    ],
)
def test_lengths_that_do_not_fit(change, said):
    sent = message("rgb8", RGB)
    for key, value in change.items():
        setattr(sent, key, value)
    with pytest.raises(ImageError, match=said):
        to_rgb(sent)


def test_unknown_encoding_names_the_known_ones(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv_bridge", None)  # as on a machine without it
    with pytest.raises(ImageError, match=r"'16UC1' is not one of rgb8.*cv_bridge"):
        to_rgb(message("16UC1", RGB[..., :2]))
