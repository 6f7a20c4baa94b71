"""Camera images to pixels, against evaluations of the same formulas in float64 and against TensorFlow's own output."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_config

from vla_model import presets
from vla_model.jpeg import round_trip
from vla_model.preprocess import Preprocessor
from vla_model.resampling import Stretch, crop_and_resize, crop_grid

PUBLISHED = presets.published(("head",), 8, 7, 8, 0.05).vision
MODES = ("bilinear", "bicubic", "lanczos3")
SIZES = [(480, 640), (480, 848), (1080, 1920), (256, 256), (60, 80)]
RADIUS = {"bilinear": 1, "bicubic": 2, "lanczos3": 3}


def preprocessor(**changes) -> Preprocessor:
    return Preprocessor(tiny_config().vision.model_copy(update=changes))


def published(**changes) -> Preprocessor:
    return Preprocessor(PUBLISHED.model_copy(update=changes))


def noise(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def scene(H, W, seed=0) -> np.ndarray:
    """Smooth shading, blocks with hard edges (where kernels overshoot), and sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W]
    phase = rng.uniform(0, 6, (2, 3))
    out = 128 + 90 * np.sin(y[..., None] / H * 9 + phase[0]) * np.sin(x[..., None] / W * 7 + phase[1])
    for _ in range(30):
        top, left = rng.integers(0, H), rng.integers(0, W)
        high, wide = rng.integers(2, H // 4), rng.integers(2, W // 4)
        out[top : top + high, left : left + wide] = rng.choice([0, 255, 40, 200], 3)
    return np.clip(out + rng.normal(0, 3, out.shape), 0, 255).round().astype(np.uint8)


def kernel(mode: str, x: np.ndarray) -> np.ndarray:
    """Triangle; Keys' cubic with a = -1/2; sinc(x) sinc(x / 3)."""
    x = np.abs(x)
    if mode == "bilinear":
        return np.maximum(1 - x, 0)
    if mode == "bicubic":
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0))
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)


def weights(length: int, size: int, mode: str) -> np.ndarray:
    """(size, length) float64: antialiased, half-pixel centres, renormalised at the borders."""
    ratio = length / size
    centre = (np.arange(size) + 0.5) * ratio
    w = kernel(mode, (np.arange(length) + 0.5 - centre[:, None]) / max(ratio, 1))
    return w / w.sum(1, keepdims=True)


def stretched(image: np.ndarray, size: int, mode: str) -> np.ndarray:
    """(H, W, 3) -> (3, size, size) float64, before rounding."""
    rows, columns = (weights(length, size, mode) for length in image.shape[:2])
    return np.einsum("yh,hwc,xw->cyx", rows, image.astype(np.float64), columns, optimize=True)


def levels(exact: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(exact), 0, 255)


def cropped(image: np.ndarray, top: float, left: float, share: float) -> np.ndarray:
    """(3, s, s) -> (3, s, s): corner-aligned bilinear samples of a crop, then x * 255.5 cut off, in float64."""
    s = image.shape[-1]
    axes = [np.minimum(corner * (s - 1) + np.arange(s) * share**0.5, s - 1) for corner in (top, left)]
    for axis, position in zip((1, 2), axes, strict=True):
        low = np.minimum(position.astype(int), s - 2)
        w = (position - low)[:, None] if axis == 1 else position - low
        a, b = (np.take(image.astype(np.float64), i, axis) for i in (low, low + 1))
        image = a + (b - a) * w
    return np.floor(image / 255 * 255.5)


def assert_levels(got: torch.Tensor, exact: np.ndarray, share: float) -> None:
    """At most one level off, and that in at most `share` of all values."""
    error = np.abs(got.numpy().astype(np.float64) - exact)
    assert got.dtype == torch.uint8 and error.max() <= 1
    assert (error > 0).mean() <= share


@pytest.mark.parametrize("make", [scene, lambda H, W: noise(H, W, 3)], ids=["scene", "noise"])
@pytest.mark.parametrize("size", SIZES)
def test_lanczos_is_the_published_stretch(make, size):
    image = make(*size)
    exact = levels(stretched(image, 224, "lanczos3"))
    stretch, x = Stretch(224, "lanczos3"), torch.from_numpy(image)[None]
    assert_levels(stretch(x)[0], exact, 1e-3)
    assert_levels(stretch.by_matrices(x.permute(0, 3, 1, 2))[0], exact, 1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(48, 64), (17, 90), (28, 30), (20, 24)])
def test_every_mode_is_its_kernel_with_and_without_matrices(mode, size):
    images = np.stack([scene(*size), noise(*size, 3)])
    exact = levels(np.stack([stretched(image, 28, mode) for image in images]))
    stretch, x = Stretch(28, mode), torch.from_numpy(images)
    # at such small ratios many values lie exactly between two levels
    # torch's uint8 kernel for bilinear has integer weights and rounds after each of its two passes
    assert_levels(stretch(x), exact, 0.3 if mode == "bilinear" else 0.02)
    assert_levels(stretch.by_matrices(x.permute(0, 3, 1, 2)), exact, 0.02)


def test_the_published_crop_is_corner_aligned_and_cut_off():
    x = torch.from_numpy(np.stack([noise(3, 224, 224), scene(224, 224).transpose(2, 0, 1)]))
    margin = (1 - 0.9**0.5) / 2
    got = published().crop(x)
    for image, out in zip(x.numpy(), got, strict=True):
        assert_levels(out, cropped(image, margin, margin, 0.9), 2e-3)
    assert torch.equal(published().crop(x.view(2, 1, 3, 224, 224))[:, 0], got)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 1), st.integers(0, 99))
def test_a_crop_may_lie_anywhere(top, left, share, seed):
    image = noise(3, 20, 20, seed=seed)
    room = 1 - share**0.5
    grid = crop_grid([(top * room, left * room)], share, 20)
    got = crop_and_resize(torch.from_numpy(image)[None], grid)[0]
    assert_levels(got, cropped(image, top * room, left * room, share), 0.01)


def test_crops_of_a_batch_are_its_images_own():
    images = torch.from_numpy(noise(3, 3, 20, 20))
    corners = [(0.0, 0.1), (0.2, 0.0), (0.05, 0.05)]
    together = crop_and_resize(images, crop_grid(corners, 0.64, 20))
    for image, corner, out in zip(images, corners, together, strict=True):
        assert torch.equal(crop_and_resize(image[None], crop_grid([corner], 0.64, 20))[0], out)


# SHA-256 of what TensorFlow 2.21 (CPU) gives for `noise(H, W, 3)`: decode_image(encode_jpeg(frame)).
TENSORFLOW_JPEG = {
    (480, 640): "30e7b4c77b230b589add7d2b3e0da7a494713d2076cc96de400f6ddd52ad5c09",
    (75, 101): "a74a5e1f76decda571a833a59e8258e7fb0c91e106ec02dee881a48c91d3ba20",
}


@pytest.mark.parametrize("size", TENSORFLOW_JPEG)
def test_the_jpeg_round_trip_is_tensorflows_to_the_pixel(size):
    frame = noise(*size, 3)
    before = frame.copy()
    out = round_trip(frame, 95)
    assert hashlib.sha256(out.tobytes()).hexdigest() == TENSORFLOW_JPEG[size]
    assert np.array_equal(frame, before)
    mirrored = np.ascontiguousarray(frame[:, ::-1])[:, ::-1]  # the same picture behind negative strides
    assert np.array_equal(round_trip(mirrored, 95), out)


def test_frames_go_through_jpeg_only_when_published_and_not_at_the_models_size():
    frame, fitting = scene(48, 64), scene(224, 224)
    assert preprocessor().jpeg(frame) is frame
    assert published().jpeg(fitting) is fitting
    for size in ((224, 300), (300, 224)):
        assert np.array_equal(published().jpeg(scene(*size)), round_trip(scene(*size), 95))
    assert np.array_equal(published().jpeg(frame), round_trip(frame, 95))
    assert np.array_equal(published(jpeg_quality=60).jpeg(frame), round_trip(frame, 60))
    assert not np.array_equal(round_trip(frame, 95), round_trip(frame, 60))


def test_the_published_way_is_its_steps_in_order():
    images = torch.from_numpy(np.stack([scene(96, 130, seed) for seed in (1, 2)]))
    whole = published()
    margin = (1 - 0.9**0.5) / 2
    for image, out in zip(images.numpy(), whole.resize(images), strict=True):
        assert_levels(out, cropped(levels(stretched(image, 224, "lanczos3")), margin, margin, 0.9), 5e-3)
    assert torch.equal(published(crop_area=1.0).resize(images), whole.stretch(images))


def test_an_image_of_the_right_size_is_left_alone():
    x = torch.from_numpy(noise(1, 28, 28, 3))
    assert torch.equal(preprocessor().resize(x), x.permute(0, 3, 1, 2))


def test_normalise_uses_each_towers_constants():
    x = torch.from_numpy(noise(2, 3, 224, 224, 3))
    dinov2, siglip = published(crop_area=1.0)(x)
    scaled = x.permute(0, 1, 4, 2, 3).double() / 255
    # the released preprocessor_config.json, not ImageNet's (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, std = (0.484375, 0.455078125, 0.40625), (0.228515625, 0.2236328125, 0.224609375)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (mean, std))
    assert dinov2.shape == siglip.shape == (2, 3, 3, 224, 224)
    assert torch.allclose(dinov2.double(), (scaled - mean) / std, atol=1e-5)
    assert torch.allclose(siglip.double(), (scaled - 0.5) / 0.5, atol=1e-5)


def test_centre_crop_of_the_source_keeps_its_share_of_the_area():
    x = torch.zeros(1, 100, 200, 3, dtype=torch.uint8)
    x[:, 5:95, 10:190] = 200  # 0.81 of the area: 90 x 180
    assert (preprocessor(crop_area=0.81).resize(x) == 200).all()
    assert (preprocessor(crop_area=0.9).resize(x) < 200).any()


def test_channels_keep_their_order():
    x = torch.zeros(1, 50, 60, 3, dtype=torch.uint8)
    x[..., 0] = 250
    for preprocess in (preprocessor(), published()):
        out = preprocess.resize(torch.from_numpy(preprocess.jpeg(x[0].numpy()))[None])
        assert (out[:, 0] >= 248).all() and (out[:, 1:] <= 2).all()


def test_what_decides_stretched_pixels_is_in_their_identity():
    base = published().stretch_identity
    for change in ({"jpeg_quality": None}, {"resize": "bicubic"}, {"crop_stage": "before_resize"}):
        assert published(**change).stretch_identity != base
    assert published(crop_area=0.8).stretch_identity == base, "the crop comes later"
    assert preprocessor(crop_area=0.8).stretch_identity != preprocessor().stretch_identity


@pytest.mark.parametrize("mode", MODES)
def test_off_the_cpu_there_are_levels_too(mode):
    """Shapes and types of the way that a GPU takes; constants are made once."""
    preprocess = published(resize=mode)
    images = torch.empty(2, 48, 64, 3, dtype=torch.uint8, device="meta")
    out = preprocess.resize(images)
    assert out.shape == (2, 3, 224, 224) and out.dtype == torch.uint8 and out.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("mode", MODES)
def test_gpu_and_cpu_agree_to_a_level_and_a_graph_replays_it(mode):
    preprocess = published(resize=mode)
    x = torch.from_numpy(np.stack([scene(480, 640, seed) for seed in range(3)])).cuda()
    expected = preprocess.resize(x.cpu())
    assert (preprocess.resize(x).cpu().int() - expected.int()).abs().max() <= 1
    static, graph = torch.zeros_like(x), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = preprocess.normalize(preprocess.resize(static))
    static.copy_(x)
    graph.replay()
    for got, want in zip(out, preprocess.normalize(preprocess.resize(x)), strict=True):
        assert torch.equal(got, want)
