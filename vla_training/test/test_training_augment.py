"""Augmentation: what part of a picture is left, and who decides."""

import torch

from vla_training.augment import _cropped, _shifted, augment_images, augment_state

S = 40


def ramps(count: int) -> torch.Tensor:
    """(count, 3, S, S) uint8: channel 0 says the column, channel 1 the row, four levels a pixel."""
    place = 4 * torch.arange(S).expand(S, S)
    return torch.stack([place, place.T, place]).to(torch.uint8).expand(count, -1, -1, -1)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_random_crop_takes_its_share_from_anywhere():
    share, step = 0.64, 0.8
    pixels = _cropped(ramps(300), generator(), share) / 4
    columns, rows = pixels[:, 0, 0], pixels[:, 1, :, 0]
    starts = torch.stack([columns[:, 0], rows[:, 0]], 1)
    room = (1 - step) * (S - 1)
    for axis, start in zip((columns, rows), starts.T, strict=True):
        torch.testing.assert_close(axis, start[:, None] + step * torch.arange(S), atol=0.3, rtol=0)
    assert starts.min() >= 0 and starts.max() <= room + 0.25, "inside the picture"
    assert starts.min() < 0.1 * room and starts.max() > 0.9 * room, "and not always at the centre"


def test_a_shift_keeps_the_scale_and_repeats_the_edge():
    columns = _shifted(ramps(100), generator())[:, 0, 0] / 4
    shifts = columns[:, S // 2] - S // 2
    assert set(shifts.tolist()) == {-2, -1, 0, 1, 2}
    expected = (torch.arange(S) + shifts[:, None]).clamp(0, S - 1)
    assert torch.equal(columns, expected)


def test_the_seed_decides_and_images_differ():
    images = torch.randint(0, 256, (3, 2, 3, S, S), dtype=torch.uint8)
    for area in (1.0, 0.9):
        one, same = (augment_images(images, generator(5), area) for _ in range(2))
        assert torch.equal(one, same) and one.shape == images.shape and one.dtype == torch.uint8
        alike = images[:1, :1].expand_as(images)
        drawn = augment_images(alike, generator(5), area).flatten(0, 1)
        assert len(drawn.flatten(1).unique(dim=0)) == 6


def test_state_noise_has_its_width():
    noise = augment_state(torch.zeros(5000, 2), 0.1, generator())
    assert abs(noise.std() - 0.1) < 0.005
