"""The backbone: the sequence it builds, what may see what, and which hidden states it hands out."""

import pytest
import torch
from tiny_model import batch, tiny_config
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vla_model import presets
from vla_model.adapter import VLAAdapter


def model_for(**kwargs) -> VLAAdapter:
    torch.manual_seed(0)
    return VLAAdapter(tiny_config(**kwargs)).eval()


def features(model, data, mask=None):
    with torch.no_grad():
        return model.features(data["images"], data["input_ids"], mask)


@pytest.mark.parametrize("cameras", [1, 2, 4])
def test_token_counts_follow_the_cameras(cameras):
    model = model_for(cameras=cameras)
    out = features(model, batch(model.config, size=3))
    assert len(out.task_layers) == len(out.query_layers) == model.config.llm.layers + 1
    assert {tuple(h.shape) for h in out.task_layers} == {(3, 4 * cameras, 64)}
    assert {tuple(h.shape) for h in out.query_layers} == {(3, 8, 64)}
    with torch.no_grad():
        assert model.head.sample(out, torch.zeros(3, model.config.state_dim)).shape == (3, 8, 6)


def test_sequence_is_first_token_patches_prompt_queries():
    model = model_for()
    data = batch(model.config, size=1, prompt_length=6)
    out, backbone = features(model, data), model.backbone
    with torch.no_grad():
        text = backbone.llm.embed_tokens(data["input_ids"])
        patches = backbone.patch_tokens(model.preprocess(data["images"]))
        sequence = torch.cat([text[:, :1], patches, text[:, 1:], backbone.action_queries.weight[None]], dim=1)
        states = backbone.llm(
            inputs_embeds=sequence, output_hidden_states=True, use_cache=False
        ).hidden_states
    P = patches.shape[1]
    assert torch.equal(out.task_layers[0], patches)
    assert torch.equal(out.query_layers[0], backbone.action_queries.weight[None])
    for layer, whole in enumerate(states):
        assert torch.allclose(out.task_layers[layer], whole[:, 1 : 1 + P], atol=1e-6)
        assert torch.allclose(out.query_layers[layer], whole[:, -8:], atol=1e-6)


def test_only_the_last_state_has_gone_through_the_final_norm():
    model = model_for()
    with torch.no_grad():
        model.backbone.llm.norm.weight.zero_()
    out = features(model, batch(model.config))
    assert out.task_layers[-1].abs().max() == 0
    assert out.task_layers[-2].abs().max() > 0


def test_shifted_slices_start_one_token_early_and_leave_the_last_query_out():
    plain, shifted = model_for(), model_for(shifted_slices=True)
    shifted.load_state_dict(plain.state_dict())
    data = batch(plain.config, prompt_length=6)
    a, b = features(plain, data), features(shifted, data)
    with torch.no_grad():
        text = plain.backbone.llm.embed_tokens(data["input_ids"])
    assert torch.equal(b.task_layers[0][:, 0], text[:, 0])
    assert torch.equal(b.query_layers[0][:, 0], text[:, -1])
    for x, y in zip(a.task_layers, b.task_layers, strict=True):
        assert torch.allclose(x[:, :-1], y[:, 1:], atol=1e-5)
    for x, y in zip(a.query_layers, b.query_layers, strict=True):
        assert torch.allclose(x[:, :-1], y[:, 1:], atol=1e-5)
    with torch.no_grad():
        shifted.backbone.action_queries.weight[-1] += 1
    again = features(shifted, data)
    assert all(torch.equal(x, y) for x, y in zip(b.query_layers, again.query_layers, strict=True))


@pytest.mark.parametrize("split", [5, 12])
def test_a_fixed_split_moves_tokens_between_task_and_queries(split):
    plain, fixed = model_for(), model_for(fixed_task_tokens=split)
    fixed.load_state_dict(plain.state_dict())
    data = batch(plain.config)
    a, b = features(plain, data), features(fixed, data)
    assert b.task_layers[0].shape[1] == fixed.config.task_tokens == split
    assert b.query_layers[0].shape[1] == fixed.config.query_tokens == 16 - split
    for i in range(len(a.task_layers)):
        joined = torch.cat([b.task_layers[i], b.query_layers[i]], dim=1)
        assert torch.equal(joined, torch.cat([a.task_layers[i], a.query_layers[i]], dim=1))


def test_patches_see_neither_text_nor_later_cameras():
    model = model_for()
    data = batch(model.config, size=2)
    before = features(model, data)
    words = features(
        model, data | {"input_ids": torch.cat([data["input_ids"][:, :1], data["input_ids"][:, 1:] + 40], 1)}
    )
    images = data["images"].clone()
    images[:, 1] = 255 - images[:, 1]
    second = features(model, data | {"images": images})
    for i in range(len(before.task_layers)):
        assert torch.equal(before.task_layers[i], words.task_layers[i])
        assert torch.allclose(before.task_layers[i][:, :4], second.task_layers[i][:, :4], atol=1e-6)
    assert not torch.allclose(before.query_layers[-1], words.query_layers[-1], atol=1e-3)
    assert not torch.allclose(before.query_layers[-1], second.query_layers[-1], atol=1e-3)
    assert not torch.allclose(before.task_layers[-1][:, 4:], second.task_layers[-1][:, 4:], atol=1e-3)


@pytest.mark.parametrize("shifted", [False, True])
def test_padded_prompts_give_what_each_prompt_gives_alone(shifted):
    model = model_for(shifted_slices=shifted)
    data = batch(model.config, size=3, prompt_length=9)
    lengths = [9, 4, 6]
    mask = torch.tensor([[1] * n + [0] * (9 - n) for n in lengths])
    together = features(model, data, mask)
    for b, n in enumerate(lengths):
        alone = features(
            model, {"images": data["images"][b : b + 1], "input_ids": data["input_ids"][b : b + 1, :n]}
        )
        for i in range(len(alone.query_layers)):
            assert torch.allclose(together.query_layers[i][b], alone.query_layers[i][0], atol=1e-5)
            assert torch.allclose(together.task_layers[i][b], alone.task_layers[i][0], atol=1e-5)


def test_patch_features_come_from_the_last_block_but_one():
    """As transformers gives them for whole towers: no final norm, DINOv2's class and register tokens dropped."""
    backbone = model_for().backbone
    pixels = model_for().preprocess(batch(backbone.config, size=1)["images"])
    patches = []
    for tower, kind, x, prefix in (
        (backbone.dinov2, Dinov2WithRegistersModel, pixels[0][0], 3),
        (backbone.siglip, SiglipVisionModel, pixels[1][0], 0),
    ):
        whole = kind(_deeper(tower.config)).eval()
        missing, unexpected = whole.load_state_dict(tower.state_dict(), strict=False)
        assert missing and not unexpected
        with torch.no_grad():
            states = whole(pixel_values=x, output_hidden_states=True).hidden_states
        assert len(states) == 4  # embeddings and three blocks
        patches.append(states[-2][:, prefix:])
    with torch.no_grad():
        expected = backbone.projector(torch.cat(patches, dim=-1)).flatten(0, 1)
        assert torch.allclose(backbone.patch_tokens(pixels)[0], expected, atol=1e-6)


def _deeper(config):
    kind = Dinov2WithRegistersConfig if "dinov2" in config.model_type else SiglipVisionConfig
    return kind(**(config.to_dict() | {"num_hidden_layers": config.num_hidden_layers + 1}))


def test_every_weight_takes_part_in_the_loss():
    model = model_for().train()
    data = batch(model.config)
    noise = torch.randn(model.config.horizon, model.config.action_dim * model.config.llm.width)
    model.loss(data | {"state": torch.randn_like(data["state"])}, noise=noise)["loss"].backward()
    dead = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert dead == set()


def test_published_backbone_has_the_published_sizes():
    config = presets.published(("head", "wrist"), 8, 7, 8, 0.05)
    with torch.device("meta"):
        backbone = VLAAdapter(config).backbone
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(backbone.projector) == 27_552_000
    assert count(backbone.llm) == 494_032_768  # Qwen2.5-0.5B
    assert len(backbone.dinov2.encoder.layer) == 23 and len(backbone.siglip.encoder.layers) == 26
    # the released file holds 1,252,553,792: each tower's last block and final norm besides, and SigLIP's pooling
    linear = lambda rows, columns: rows * columns + rows  # noqa: E731
    block = lambda d, m: 4 * linear(d, d) + linear(m, d) + linear(d, m) + 4 * d  # noqa: E731
    dinov2 = block(1024, 4096) + 2 * 1024 + 2 * 1024
    pooling = 1152 + 4 * linear(1152, 1152) + 2 * 1152 + linear(4304, 1152) + linear(1152, 4304)
    siglip = block(1152, 4304) + 2 * 1152 + pooling
    class_position = 1024  # transformers gives DINOv2's class token a position, the released tower does not
    assert count(backbone) - class_position + dinov2 + siglip == 1_252_553_792
