"""FLOPs and weights that the roofline counts from a config are those of the model itself."""

import pytest
import torch
from parity import FORMS, HEADS, PROMPT, inputs, model_config, noisy_model, plain_features
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import roofline
from vla_model import presets
from vla_model.adapter import VLAAdapter

CASES = [(head, form, False) for head in HEADS for form in FORMS]
CASES += [(block, form, True) for block in ("base", "pro") for form in FORMS]  # discrete


@pytest.mark.parametrize(("head", "form", "discrete"), CASES)
@pytest.mark.parametrize("cameras", [1, 3])
@torch.no_grad()
def test_flops_equal_those_of_the_model(cameras, head, form, discrete):
    config = model_config(cameras, 25, 14, head, form, discrete)
    model, (images, ids, state) = noisy_model(config), inputs(config)
    parts = roofline.work(config, len(PROMPT))
    with sdpa_kernel(
        SDPBackend.MATH
    ):  # whose attention the counter knows; it computes what the mask hides, too
        features, backbone = _flops(lambda: plain_features(model, images, ids))
        _, sampled = _flops(lambda: model.head.sample(features, state))
    S = config.patches + len(PROMPT) + config.action_queries - config.shifted_slices
    hidden = 2 * config.llm.layers * config.llm.width * S * (S - 1)
    assert backbone == sum(parts[n].flops for n in ("towers", "projector", "language model")) + hidden
    # the stem's product, of one row, which the fast path does when it is made
    stem = 2 * config.action_dim * config.llm.width**2 if head != "dual_arm" else 0
    assert sampled - stem == parts["head"].flops


@pytest.mark.parametrize(("head", "form", "discrete"), CASES)
def test_weights_are_the_models_less_what_is_folded_or_never_read(head, form, discrete):
    config = model_config(2, 25, 14, head, form, discrete)
    model, parts = VLAAdapter(config), roofline.work(config, len(PROMPT))
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    D, vision = config.llm.width, config.vision

    def count(prefix: str, without: tuple[str, ...] = ()) -> int:
        return sum(
            n for name, n in sizes.items() if name.startswith(prefix) and not any(w in name for w in without)
        )

    class_position = vision.dinov2.width  # a constant of its token
    assert parts["towers"].weights == count("backbone.dinov2.") + count("backbone.siglip.") - class_position
    assert parts["projector"].weights == count("backbone.projector.")
    rows = len(PROMPT) + config.action_queries - config.shifted_slices
    assert parts["language model"].weights == count("backbone.llm.", ("embed_tokens",)) + rows * D
    stem = ("head.layer_norm1", "head.fc1", "film_gen")
    folded = D if head != "dual_arm" and not config.head.step_embedding else 0  # one row in place of the stem
    assert parts["head"].weights == count("head.", stem) + folded


@pytest.mark.parametrize(("head", "form"), [(head, form) for head in HEADS for form in FORMS])
@pytest.mark.parametrize("cameras", [1, 3])
@torch.no_grad()
def test_activations_are_what_one_part_hands_to_the_next(cameras, head, form):
    config = model_config(cameras, 25, 14, head, form)
    model, (images, ids, state) = noisy_model(config), inputs(config)
    fused, parts = [], roofline.work(config, len(PROMPT))
    model.backbone.projector.register_forward_pre_hook(lambda _, given: fused.append(given[0].numel()))
    tokens = model.backbone.patch_tokens(model.preprocess.normalize(images[None])).numel()
    features = plain_features(model, images, ids)
    read = sum(h.numel() for h in (*features.task_layers[1:], *features.query_layers[1:]))
    chunk = model.head.sample(features, state).numel()
    assert {name: part.activations for name, part in parts.items()} == {
        "towers": images.numel() + fused[0],
        "projector": fused[0] + tokens,
        "language model": tokens + read,
        "head": read + chunk,
    }


def test_published_size_is_near_the_facts_known_of_the_reference():
    """Two cameras, as estimated from the reference with its last blocks (29 of 767 GFLOP) and without attention."""
    parts = roofline.work(presets.published(("head", "wrist"), 8, 7, 8, 0.05))
    gflop = {name: part.flops / 1e9 for name, part in parts.items()}
    assert gflop["towers"] == pytest.approx(767 - 29, rel=0.01)
    assert gflop["projector"] == pytest.approx(28, rel=0.01)
    assert gflop["language model"] == pytest.approx(443 + 16, rel=0.01)
    assert gflop["head"] == pytest.approx(46, rel=0.01)


def test_a_part_is_bound_by_the_slower_of_products_and_memory():
    peaks = roofline.Peaks(flops=1e12, bytes=1e9)
    assert roofline.Work(2 * 10**9, 1, 1).bound_ms(peaks) == 2.0
    assert roofline.Work(1, 10**6, 10**6).bound_ms(peaks) == 4.0


def _flops(call):
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()
