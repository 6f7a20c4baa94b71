"""Every tensor of a released checkpoint has its place in ours, and the towers compute what timm's do."""

import math

import pytest
import torch
from naive_timm import patches
from released_model import CAMERAS, released_config

from vla_model import presets
from vla_model.adapter import VLAAdapter
from vla_model.released import names
from vla_model.released.write import random_weights
from vla_model.weights import blank, model_shapes, place

torch.set_num_threads(1)


def published(block="pro", action=7, state=8):
    return presets.published(CAMERAS, state, action, 8, 0.05, head=presets.published_head(block=block))


def released_shapes(config):
    read = names.read_shapes(config)
    shapes = read | names.unread_shapes(config, read)
    del shapes[names.LM_HEAD]
    return shapes


def count(shapes, *prefixes):
    own = [shape for name, shape in shapes.items() if name.startswith(prefixes)]
    return len(own), sum(math.prod(shape) for shape in own)


def test_the_published_model_has_the_released_tensors():
    shapes = released_shapes(published())
    vlm = {n: s for n, s in shapes.items() if not n.startswith((f"{names.HEAD}.", f"{names.PROJECTOR}."))}
    assert (len(vlm), sum(math.prod(shape) for shape in vlm.values())) == (982, 1_252_553_792)
    counts = {
        f"{names.DINOV2}.": 343,
        f"{names.SIGLIP}.": 342,
        "projector.": 6,
        "language_model.": 290,
        "action_queries.": 1,
    }
    assert {prefix: count(vlm, prefix)[0] for prefix in counts} == counts
    assert count(vlm, "projector.")[1] == 27_552_000
    assert vlm[f"{names.DINOV2}.pos_embed"] == (1, 256, 1024)  # no position for the class token
    assert vlm[f"{names.DINOV2}.reg_token"] == (1, 4, 1024)
    assert vlm[f"{names.SIGLIP}.attn_pool.mlp.fc1.weight"] == (4304, 1152)
    assert vlm["language_model.model.embed_tokens.weight"] == (151936, 896)


def test_the_published_preset_has_the_references_quirks():
    config = published()
    assert (config.shifted_slices, config.fixed_task_tokens, config.action_queries) == (True, 512, 64)
    assert (config.normalization, config.constant_state) == ("bounds_q99", "published")
    vision, llm, head = config.vision, config.llm, config.head
    assert (vision.jpeg_quality, vision.resize, vision.crop_area, vision.crop_stage) == (
        95, "lanczos3", 0.9, "after_resize",
    )  # fmt: skip
    assert (vision.image_size, vision.patch_size, vision.patches, vision.width) == (224, 14, 256, 2176)
    assert (llm.rope_theta, llm.rms_norm_eps) == (1e6, 1e-6)
    assert (head.rotary_pairing, head.rotary_table, head.task_gate) == ("mixed", "bfloat16", "logits")
    assert (head.heads, head.gate_init, head.film, head.stem_noise_std, head.step_embedding) == (
        8, 0.0, True, 0.02, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("block", "action", "tensors", "parameters"),
    [
        ("base", 7, 320, 102_129_695),
        ("base", 14, 320, 107_768_230),
        ("base", 16, 320, 109_379_240),
        ("pro", 7, 560, 217_864_223),
        ("pro", 14, 560, 223_502_758),
        ("pro", 16, 560, 225_113_768),
    ],
)
def test_the_heads_have_the_released_tensors(block, action, tensors, parameters):
    assert count(released_shapes(published(block, action)), f"{names.HEAD}.") == (tensors, parameters)


@pytest.mark.parametrize(("state", "parameters"), [(8, 811_776), (14, 817_152), (16, 818_944)])
def test_the_proprio_projector_has_the_released_tensors(state, parameters):
    assert count(released_shapes(published(state=state)), f"{names.PROJECTOR}.") == (4, parameters)


@pytest.mark.parametrize("block", ["base", "pro"])
def test_each_weight_of_ours_has_one_place(block):
    config = released_config(head=presets.published_head(block=block))
    ours = [name for link in names.links(config) for name in link.ours]
    assert sorted(ours) == sorted(model_shapes(config)) == sorted(VLAAdapter(config).state_dict())
    theirs = [name for link in names.links(config) for name in link.theirs]
    assert len(set(theirs)) == len(theirs)


def test_there_and_back_is_the_same():
    config = released_config()
    theirs = dict(random_weights(names.read_shapes(config), 3, torch.float32))
    ours = names.to_ours(theirs, config)
    assert {name: tuple(v.shape) for name, v in ours.items()} == dict(model_shapes(config))
    again = names.to_theirs(ours, config)
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("tower", ["dinov2", "siglip"])
def test_the_towers_compute_what_timm_computes(tower):
    config = released_config()
    theirs = dict(random_weights(names.read_shapes(config), 4, torch.float32))
    for name in theirs:  # small enough for the epsilon of the first norm to matter
        if "patch_embed" in name or "pos_embed" in name or name.endswith("_token"):
            theirs[name] *= 0.003
    pixels = torch.randn(3, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    backbone = place(blank(config), names.to_ours(theirs, config), "cpu", None).backbone
    module, prefix, name, depth = {
        "dinov2": (backbone.dinov2, 5, names.DINOV2, 24),
        "siglip": (backbone.siglip, 0, names.SIGLIP, 27),
    }[tower]
    with torch.no_grad():
        seen = module.encoder(module.embeddings(pixels)).last_hidden_state[:, prefix:]
        expected = patches(theirs, name, pixels, depth - 1)
    assert seen.shape == (
        3,
        9,
        config.vision.dinov2.width if tower == "dinov2" else config.vision.siglip.width,
    )
    assert torch.allclose(seen, expected, atol=1e-4, rtol=1e-5)


def test_a_position_of_the_class_token_is_folded_into_it():
    """Ours can learn one; timm's towers have none."""
    config = released_config()
    g = torch.Generator().manual_seed(1)
    ours = {name: torch.randn(shape, generator=g) for name, shape in model_shapes(config).items()}
    theirs = names.to_theirs(ours, config)
    again = place(blank(config), names.to_ours(theirs, config), "cpu", None).backbone.dinov2
    model = place(blank(config), ours, "cpu", None).backbone.dinov2
    pixels = torch.randn(1, 3, 42, 42, generator=g)
    with torch.no_grad():
        assert torch.allclose(model.embeddings(pixels), again.embeddings(pixels), atol=1e-6)
    assert not again.embeddings.position_embeddings[:, 0].any()
