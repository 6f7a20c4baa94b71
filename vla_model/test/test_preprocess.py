"""Camera images to pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_model import tiny_config

from vla_model import presets
from vla_model.preprocess import Preprocessor


def preprocessor(**changes) -> Preprocessor:
    return Preprocessor(tiny_config().vision.model_copy(update=changes))


def images(*shape, seed=0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(48, 64), (17, 90), (28, 30)])
def test_resize_is_the_antialiased_stretch_rounded_to_levels(mode, size):
    x = images(2, *size, 3)
    got = preprocessor(resize=mode).resize(x)
    exact = F.interpolate(x.permute(0, 3, 1, 2).double(), (28, 28), mode=mode, antialias=True).clamp(0, 255)
    assert got.dtype == torch.uint8
    error = (got.double() - exact).abs()  # rounded after each of two passes, with integer weights
    assert error.max() <= 2 and error.mean() < 0.35


def test_an_image_of_the_right_size_is_left_alone():
    x = images(1, 28, 28, 3)
    assert torch.equal(preprocessor().resize(x), x.permute(0, 3, 1, 2))


def test_normalise_uses_each_towers_constants():
    config = presets.published(("head",), 8, 7, 8, 0.05).vision
    x = images(2, 3, 224, 224, 3)
    dinov2, siglip = Preprocessor(config)(x)
    scaled = x.permute(0, 1, 4, 2, 3).double() / 255
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (config.dinov2.mean, config.dinov2.std))
    cropped = Preprocessor(config.model_copy(update={"crop_area": 1.0}))(x)
    assert dinov2.shape == siglip.shape == (2, 3, 3, 224, 224)
    assert torch.allclose(cropped[0].double(), (scaled - mean) / std, atol=1e-5)
    assert torch.allclose(cropped[1].double(), (scaled - 0.5) / 0.5, atol=1e-5)


def test_centre_crop_keeps_its_share_of_the_area():
    x = torch.zeros(1, 100, 200, 3, dtype=torch.uint8)
    x[:, 5:95, 10:190] = 200  # 0.81 of the area: 90 x 180
    assert (preprocessor(crop_area=0.81).resize(x) == 200).all()
    assert (preprocessor(crop_area=0.9).resize(x) < 200).any()


def test_channels_keep_their_order():
    x = torch.zeros(1, 50, 60, 3, dtype=torch.uint8)
    x[..., 0] = 250
    out = preprocessor().resize(x)
    assert (out[:, 0] == 250).all() and (out[:, 1:] == 0).all()


def test_the_way_without_an_integer_kernel_gives_levels_too():
    out = preprocessor().resize(torch.empty(2, 48, 64, 3, dtype=torch.uint8, device="meta"))
    assert out.shape == (2, 3, 28, 28) and out.dtype == torch.uint8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_gpu_and_cpu_agree_to_two_levels(mode):
    x = images(2, 48, 64, 3)
    error = preprocessor(resize=mode).resize(x.cuda()).cpu().int() - preprocessor(resize=mode).resize(x).int()
    assert error.abs().max() <= 2
