"""The discrete head's bins: where they lie, what comes back from them, what is beyond them, and that they are kept."""

import hypothesis
import numpy as np
import pytest
import torch
from head_cases import (
    head_config,
    noise_of,
    random_actions,
    random_features,
    random_head,
    random_state,
)
from hypothesis import strategies as st
from naive_heads import bin_of

from vla_model.heads.bins import centres, encode, widen

ranges = st.tuples(st.floats(-50, 50), st.floats(1, 100)).map(lambda p: (p[0], p[0] + p[1]))
counts = st.integers(2, 512)


def edges(*pairs):
    return (torch.tensor(column, dtype=torch.float32) for column in zip(*pairs, strict=True))


@hypothesis.given(pair=ranges, bins=counts, share=st.floats(0, 1))
def test_a_value_of_the_range_comes_back_within_half_a_bin(pair, bins, share):
    low, high = edges(pair)
    value = low + share * (high - low)
    index, outside = encode(value, low, high, bins)
    back = centres(low, high, bins)[0, index[0]]
    assert 0 <= index[0] < bins and not outside[0]
    half = (high - low) / bins / 2
    assert (back - value).abs() <= half + 1e-5 * torch.maximum(low.abs(), high.abs())


@hypothesis.given(pair=ranges, bins=counts, k=st.integers(0, 511))
def test_a_bin_s_centre_encodes_to_the_bin(pair, bins, k):
    low, high = edges(pair)
    index, _ = encode(centres(low, high, bins)[0, k % bins], low, high, bins)
    assert index[0] == k % bins


@hypothesis.given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=20), st.integers(2, 40))
def test_encoding_finds_the_part_that_holds_the_value(values, bins):
    low, high = torch.tensor([-1.5]), torch.tensor([2.0])
    index, outside = encode(torch.tensor(values)[:, None], low, high, bins)
    for value, k, beyond in zip(values, index[:, 0].tolist(), outside[:, 0].tolist(), strict=True):
        exact = bins * (value + 1.5) / 3.5
        if abs(exact - round(exact)) > 1e-4:  # on an edge float32 may decide either way
            assert k == bin_of(value, -1.5, 2.0, bins)
            assert beyond == (not -1.5 <= value <= 2.0)


def test_margins_are_five_percent_on_each_side_and_a_constant_dimension_keeps_its_value():
    low, high = widen(torch.tensor([-1.0, 0.0, 3.0, -400.0]), torch.tensor([1.0, 4.0, 3.0, -400.0]))
    assert torch.allclose(low[:2], torch.tensor([-1.1, -0.2]))
    assert torch.allclose(high[:2], torch.tensor([1.1, 4.2]))
    assert (high > low).all()
    constant = torch.tensor([3.0, -400.0])
    index, outside = encode(constant, low[2:], high[2:], 256)
    back = centres(low[2:], high[2:], 256).gather(1, index[:, None])[:, 0]
    assert not outside.any() and torch.allclose(back, constant, rtol=1e-5)


@pytest.mark.parametrize("decode", ["argmax", "expectation"])
def test_a_sharp_distribution_decodes_to_its_bin_s_centre(decode):
    config = head_config("discrete-pro", head={"decode": decode, "bins": 32})
    head = random_head(config)
    index = torch.randint(0, 32, (2, config.horizon, config.action_dim))
    logits = 1e4 * torch.nn.functional.one_hot(index, 32).float()
    values = centres(head.bin_low, head.bin_high, 32).expand(2, config.horizon, -1, -1)
    assert torch.allclose(head.decode(logits), values.gather(-1, index[..., None])[..., 0])


def test_an_even_distribution_is_expected_in_the_middle():
    head = random_head(head_config("discrete-pro", head={"decode": "expectation"}))
    chunk = head.decode(torch.zeros(1, 8, 6, 16))
    assert torch.allclose(chunk, ((head.bin_low + head.bin_high) / 2).expand_as(chunk), atol=1e-6)


def test_values_beyond_the_margins_count_as_the_outermost_bin_and_are_reported():
    config = head_config("discrete-pro")
    head, features, state = random_head(config), random_features(config), random_state(config)
    noise, inside = noise_of(config), ((head.bin_low + head.bin_high) / 2).expand(2, config.horizon, -1)
    far = inside.clone()
    far[0, 0] = head.bin_high + 100
    far[0, 1] = head.bin_low - 100
    edge = far.clone()
    edge[0, 0], edge[0, 1] = head.bin_high, head.bin_low
    results = [head.loss(features, actions, state, noise=noise) for actions in (inside, far, edge)]
    assert results[0].metrics["outside_bins"] == 0
    assert results[1].metrics["outside_bins"] == pytest.approx(2 / (2 * config.horizon))
    assert torch.equal(results[1].loss, results[2].loss)


def test_accuracy_is_the_share_of_right_bins():
    config = head_config("discrete-pro")
    head, features, state = random_head(config), random_features(config), random_state(config)
    noise, actions = noise_of(config), random_actions(config)
    with torch.no_grad():
        logits = head.logits(features, state, noise)
        best = head.decode(logits)  # the centres of the likeliest bins
        assert head.loss(features, best, state, noise=noise).metrics["accuracy"] == 1
        result = head.loss(features, actions, state, noise=noise)
    low, high = head.bin_low.double(), head.bin_high.double()
    right = [
        int(logits[i].argmax()) == bin_of(actions[i].item(), low[i[-1]].item(), high[i[-1]].item(), 16)
        for i in np.ndindex(actions.shape)
    ]
    assert result.metrics["accuracy"] == pytest.approx(np.mean(right))
    assert result.metrics["l1"] == pytest.approx((best - actions).abs().mean().item())


def test_bins_stay_exact_in_a_bfloat16_model():
    head = random_head(head_config("discrete-pro"))
    low, high = head.bin_low.clone(), head.bin_high.clone()
    head.bfloat16()
    assert head.fc2.weight.dtype == torch.bfloat16
    assert torch.equal(head.bin_low, low) and torch.equal(head.bin_high, high)
    assert head.to("meta").bin_low.is_meta
