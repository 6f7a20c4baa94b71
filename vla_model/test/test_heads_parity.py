"""Every head against its equations, written out a second time in naive_heads."""

import math

import naive_heads
import numpy as np
import pytest
import torch
from head_cases import (
    FORMS,
    HEAD_TYPES,
    arrays,
    head_config,
    naive_form,
    noise_of,
    random_actions,
    random_features,
    random_head,
    random_state,
)  # fmt: skip

from vla_model.heads.rotary import Rotary

CASES = [(1, 8, 7), (2, 25, 14), (3, 30, 16)]  # cameras, chunk, action
FP32 = 1e-4  # of the largest output
BF16 = 2**-7  # of a block's largest output; measured up to 2**-7.8, one rounding alone is 2**-9


def naive_outputs(head, config, features, state, noise):
    """(B, T, outputs) of the whole head."""
    w, form = arrays(head), naive_form(config)
    naive = naive_heads.dual_arm_head if config.head.type == "dual_arm" else naive_heads.single_arm_head
    z = np.zeros(noise_of(config).shape) if noise is None else noise.double().numpy()
    return np.stack(
        [
            naive(w, form, *([h[b].double().numpy() for h in hs] for hs in (
                features.task_layers, features.query_layers)), state[b].double().numpy(), z)
            for b in range(len(state))
        ]
    )  # fmt: skip


def close(ours, expected, tolerance):
    return np.abs(np.asarray(ours) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("cameras", "horizon", "action_dim"), CASES)
@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_a_head_equals_its_equations(kind, cameras, horizon, action_dim, form):
    sizes = {"horizon": horizon, "action_dim": action_dim}
    if form == "published":  # the quirk that puts query tokens among the task tokens, or the other way round
        sizes["fixed_task_tokens"] = 8
    config = head_config(kind, form, cameras, **sizes)
    head, features, state = random_head(config), random_features(config), random_state(config)
    raw = head.logits if config.head.type == "discrete" else head.sample
    for noise in (None, noise_of(config)):
        with torch.no_grad():
            ours = raw(features, state, noise).flatten(2)
        assert close(ours, naive_outputs(head, config, features, state, noise), FP32)


@pytest.mark.parametrize("decode", ["argmax", "expectation"])
@pytest.mark.parametrize("kind", ["discrete-base", "discrete-pro"])
def test_a_discrete_head_decodes_its_distributions(kind, decode):
    config = head_config(kind, head={"decode": decode})
    head, features, state = random_head(config), random_features(config), random_state(config)
    low, high, bins = head.bin_low.double().numpy(), head.bin_high.double().numpy(), config.head.bins
    logits = naive_outputs(head, config, features, state, None)
    logits = logits.reshape(*logits.shape[:2], config.action_dim, bins)
    with torch.no_grad():
        ours = head.sample(features, state)
    for b, t, a in np.ndindex(*logits.shape[:3]):
        centres = [naive_heads.bin_centre(k, low[a], high[a], bins) for k in range(bins)]
        row = logits[b, t, a]
        expected = centres[int(np.argmax(row))]
        if decode == "expectation":
            expected = naive_heads.softmax(row) @ centres
        assert abs(ours[b, t, a].item() - expected) <= FP32 * (high[a] - low[a])


@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_a_masked_loss_is_the_average_of_the_valid_elements(kind):
    config = head_config(kind)
    head, features, state = random_head(config), random_features(config), random_state(config)
    actions, noise = random_actions(config), noise_of(config)
    step_mask = torch.ones(2, config.horizon)
    step_mask[0, 2:5], step_mask[1, 6:] = 0, 0
    dim_mask = torch.tensor([1, 1, 0, 1, 0, 1.0])
    outputs = naive_outputs(head, config, features, state, noise)
    if config.head.type == "discrete":
        low, high, bins = head.bin_low.double().numpy(), head.bin_high.double().numpy(), config.head.bins
        logits = outputs.reshape(*actions.shape, bins)
        errors = np.empty(actions.shape)
        for b, t, a in np.ndindex(actions.shape):
            k = naive_heads.bin_of(actions[b, t, a].item(), low[a], high[a], bins)
            errors[b, t, a] = -math.log(naive_heads.softmax(logits[b, t, a])[k])
    else:
        errors = np.abs(outputs - actions.double().numpy())
    expected = naive_heads.masked_average(errors, step_mask.numpy(), dim_mask.numpy())
    with torch.no_grad():
        result = head.loss(features, actions, state, step_mask, dim_mask, noise)
    assert result.loss.item() == pytest.approx(expected, rel=FP32)
    valid = (step_mask[..., None] * dim_mask).bool()
    assert close(result.per_element[valid], errors[valid.numpy()], FP32)
    assert (result.per_element[~valid] == 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["base", "pro", "dual-arm"])
def test_a_bfloat16_block_stays_near_the_equations_of_its_rounded_weights(kind, form):
    """Block by block: through all layers of random weights the roundings of bfloat16 would grow without bound."""
    config = head_config(kind, form, horizon=25)
    head, features = random_head(config).bfloat16(), random_features(config, size=1)
    rotary = Rotary(
        64, config.llm.width // config.head.heads, config.head.rotary_pairing, config.head.rotary_table
    )
    rotary.bfloat16()
    options, D = naive_form(config), config.llm.width
    h_t, h_a = features.task_layers[0].bfloat16(), features.query_layers[0].bfloat16()
    x = torch.randn(2, 1, 25, D).relu().bfloat16()
    p = torch.randn(1, 1, D).bfloat16()
    task, query, token = h_t[0].double().numpy(), h_a[0].double().numpy(), p[0].double().numpy()
    with torch.no_grad():
        if kind == "dual-arm":
            block = head.blocks[0]
            a = torch.cat([torch.stack(h_a.chunk(2, dim=1)), p.expand(2, 1, 1, D)], dim=2)
            ours = block(x, block.condition(h_t, a), rotary)[:, 0]
            rows = {"L": x[0, 0].double().numpy(), "R": x[1, 0].double().numpy()}
            halves = {"L": query[: len(query) // 2], "R": query[len(query) // 2 :]}
            new = naive_heads.inter_arm_block(arrays(block), rows, task, halves, token, options)
            expected = np.stack([new["L"], new["R"]])
        else:
            block = head.mlp_resnet_blocks[0]
            ours = block(x[0], block.condition(h_t, torch.cat([h_a, p], dim=1), rotary), rotary)[0]
            rows = x[0, 0].double().numpy()
            expected = naive_heads.bridge_block(arrays(block), rows, task, query, token, options)
    assert ours.dtype == torch.bfloat16
    assert close(ours.double(), expected, BF16)
