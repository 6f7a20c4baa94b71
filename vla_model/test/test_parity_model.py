"""Our whole model, plain and fast, against a second evaluation of the reference's equations with the same weights.

The naive model was compared with the public reference itself (VLA-Adapter 838a36d, timm 0.9.10, transformers
4.40.1): hidden states and actions of the two were equal bit for bit, base and Pro, 1 to 3 cameras.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from parity import (
    FORMS,
    HEADS,
    PATHS,
    RIGS,
    fast_chunk,
    inputs,
    model_config,
    naive_chunk,
    naive_states,
    noisy_model,
    plain_features,
)

from bench.naive_vla.policy import NaiveVLAPolicy
from bench.naive_vla.weights import naive_of
from vla_model.adapter import VLAAdapter
from vla_model.checkpoint import Checkpoint
from vla_model.normalize import describe
from vla_model.policy import Observation, Policy
from vla_model.tokenizer import build_tokenizer

CASES = [
    pytest.param(cameras, *rig, head, form, id=f"{cameras}-{rig[0]}x{rig[1]}-{head}-{form}")
    for cameras in (1, 2, 3)
    for rig in RIGS
    for head in HEADS
    for form in FORMS
]
FP32 = {"atol": 1e-4, "rtol": 0}


@pytest.mark.parametrize(("cameras", "horizon", "action_dim", "head", "form"), CASES)
@torch.no_grad()
def test_chunks_are_those_of_the_naive_model(cameras, horizon, action_dim, head, form):
    config = model_config(cameras, horizon, action_dim, head, form)
    model, data = noisy_model(config), inputs(config)
    expected = naive_chunk(naive_of(model), *data)
    assert expected.shape == (1, horizon, action_dim)
    assert expected.std() > 0.3
    for path in PATHS.values():
        torch.testing.assert_close(path(model, *data), expected, **FP32)


@pytest.mark.parametrize("block", ["base", "pro"])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_bins_have_the_logits_of_the_naive_model(block, form):
    config = model_config(2, 8, 7, block, form, discrete=True)
    model, (images, ids, state) = noisy_model(config), inputs(config)
    expected = naive_chunk(naive_of(model), images, ids, state).unflatten(-1, (7, 16))
    logits = model.head.logits(plain_features(model, images, ids), state)
    torch.testing.assert_close(logits, expected, **FP32)
    chunk = fast_chunk(model, images, ids, state)
    torch.testing.assert_close(chunk, model.head.decode(expected), **FP32)


@pytest.mark.parametrize("cameras", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_every_layer_has_the_hidden_states_of_the_naive_model(cameras, form):
    config = model_config(cameras, 8, 7, "pro", form)
    model, (images, ids, _) = noisy_model(config), inputs(config)
    states, features = naive_states(naive_of(model), images, ids), plain_features(model, images, ids)
    ours = [torch.cat(pair, dim=1) for pair in zip(features.task_layers, features.query_layers, strict=True)]
    torch.testing.assert_close(torch.stack(ours, dim=1), states, **FP32)


def test_predict_from_camera_frames_in_the_published_form():
    """JPEG, Lanczos, the crop after it, bounds of quantiles: within what one grey level makes of a chunk."""
    config = model_config(2, 8, 7, "pro", "published")
    pictures = {"jpeg_quality": 95, "resize": "lanczos3", "crop_area": 0.9, "crop_stage": "after_resize"}
    changes = {"vision": config.vision.model_copy(update=pictures), "normalization": "bounds_q99"}
    torch.manual_seed(0)
    model = VLAAdapter(config.model_copy(update=changes))  # not noisy: that one makes much of a grey level
    rng = np.random.default_rng(0)
    values = {key: describe(rng.normal(size=(200, 7)) * 2 + 1) for key in ("action", "proprio")}
    checkpoint = Checkpoint(model, {"data": values}, "", build_tokenizer())
    frames = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in config.camera_names}
    seen = Observation(frames, rng.normal(size=7), "pick up the red cube", stamp_ns=0)
    ours, theirs = Policy(checkpoint, "test").predict(seen), NaiveVLAPolicy(checkpoint).predict(seen)
    assert theirs.std() > 1
    np.testing.assert_allclose(ours, theirs, atol=0.05)
    negative = replace(seen, images={name: 255 - frame for name, frame in frames.items()})
    assert abs(ours - Policy(checkpoint, "test").predict(negative)).max() > 1


@torch.no_grad()
def test_what_the_reference_computes_for_nobody_changes_nothing():
    """Its last blocks, its stop token and, with shifted slices, its last query."""
    config = model_config(2, 8, 7, "pro", "published")
    model, data = noisy_model(config), inputs(config)
    naive = naive_of(model)
    before = naive_chunk(naive, *data)
    for tower in (naive.vision_backbone.featurizer, naive.vision_backbone.fused_featurizer):
        tower.blocks[-1].mlp.fc2.weight.mul_(-3)
    naive.language_model.embed_tokens.weight[2] += 1
    naive.action_queries.weight[-1] += 1
    assert torch.equal(naive_chunk(naive, *data), before)
    naive.action_queries.weight[-2] += 1
    assert not torch.equal(naive_chunk(naive, *data), before)
