"""The Pro head against the equations it is defined by, written out here a second time in plain NumPy (float64)."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from tiny_model import tiny_config

from vla_model import presets
from vla_model.config import HeadConfig, ModelConfig
from vla_model.features import Features
from vla_model.heads.bridge import ProBlock
from vla_model.heads.l1 import L1Head
from vla_model.heads.rotary import Rotary, rotary_table

PUBLISHED = {
    "rotary_pairing": "mixed",
    "rotary_table": "bfloat16",
    "task_gate": "logits",
    "film": True,
    "step_embedding": False,
    "stem_noise_std": 0.02,
}


def as_bf16(x):
    """Round a float to the nearest bfloat16, ties to even, by its bits."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


def angle(n, j, dim, bf16):
    theta = np.float32(1.0) / np.float32(10000.0) ** np.float32(2 * (j % (dim // 2)) / dim)
    if not bf16:
        return np.float32(n) * theta
    return as_bf16(as_bf16(n) * as_bf16(theta))


@cache
def cos_sin(n, j, dim, bf16):
    a = np.float32(angle(n, j, dim, bf16))
    return (as_bf16(np.cos(a)), as_bf16(np.sin(a))) if bf16 else (np.cos(a), np.sin(a))


def turn(z, mixed, bf16):
    """Rotate (n, d) by its row index, dimension by dimension."""
    n_rows, dim = z.shape
    out = np.empty_like(z)
    for n in range(n_rows):
        for j in range(dim):
            c, s = cos_sin(n, j, dim, bf16)
            if mixed:
                partner = -z[n, j + 1] if j % 2 == 0 else z[n, j - 1]
            else:
                partner = -z[n, j + dim // 2] if j < dim // 2 else z[n, j - dim // 2]
            out[n, j] = z[n, j] * c + partner * s
    return out


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]
        + w[f"{name}.bias"]
    )


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def block(w, x, h_t, h_a, p, heads, gate_on_logits, mixed, bf16):
    """One block on one sample: x (T, D), h_t (K_t, D), h_a (K_a, D), p (1, D)."""
    a, dim, gate = np.concatenate([h_a, p]), x.shape[1] // heads, math.tanh(w["gating_factor"][0])
    outputs = []
    for head in range(heads):
        cut = slice(head * dim, (head + 1) * dim)
        q, k_s, v_s = (linear(w, name, x)[:, cut] for name in ("q_proj", "k_self", "v_self"))
        k_a, v_a = (linear(w, name, a)[:, cut] for name in ("k_adapter", "v_adapter"))
        k_t, v_t = (linear(w, name, h_t)[:, cut] for name in ("k_task", "v_task"))
        q, k_s, k_a, k_t = (turn(z, mixed, bf16) for z in (q, k_s, k_a, k_t))
        own = np.concatenate([q @ k_s.T, q @ k_a.T], axis=1)
        if gate_on_logits:
            weights = softmax(np.concatenate([own, gate * (q @ k_t.T)], axis=1) / math.sqrt(dim))
            outputs.append(weights @ np.concatenate([v_s, v_a, v_t]))
        else:
            task = softmax(q @ k_t.T / math.sqrt(dim)) @ v_t
            outputs.append(softmax(own / math.sqrt(dim)) @ np.concatenate([v_s, v_a]) + gate * task)
    y = linear(w, "o_proj", np.concatenate(outputs, axis=1)) + x
    return np.maximum(linear(w, "ffn.1", layer_norm(w, "ffn.0", y)), 0)


def naive_head(w, head, layers, task, query, state, noise):
    """The whole head on one sample; task and query are lists of (K, D), one per layer."""
    gelu = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))
    p = linear(w, "proprio_projector.fc2", gelu(linear(w, "proprio_projector.fc1", state[None])))
    x = np.maximum(linear(w, "fc1", layer_norm(w, "layer_norm1", noise)), 0)
    x = x + w.get("step_embedding", 0)
    for i in range(layers):
        prefix = f"mlp_resnet_blocks.{i}."
        own = {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}
        options = (
            head.heads,
            head.task_gate == "logits",
            head.rotary_pairing == "mixed",
            head.rotary_table == "bfloat16",
        )
        x = block(own, x, task[i + 1], query[i + 1], p, *options)
    return linear(w, "fc2", layer_norm(w, "layer_norm2", x))


def random_head(config: ModelConfig, seed: int = 0) -> L1Head:
    torch.manual_seed(seed)
    head = L1Head(config).eval()
    with torch.no_grad():
        for name, value in head.named_parameters():  # nothing stays at 0 or 1, the gates least of all
            value.copy_(torch.randn_like(value) * (0.5 if "gating" in name else value.shape[-1] ** -0.5))
    return head


def random_features(config: ModelConfig, size: int = 2, seed: int = 1) -> Features:
    g = torch.Generator().manual_seed(seed)

    def draw(tokens: int):
        return tuple(
            torch.randn(size, tokens, config.llm.width, generator=g) for _ in range(config.llm.layers + 1)
        )

    return Features(task_layers=draw(config.task_tokens), query_layers=draw(config.query_tokens))


@pytest.mark.parametrize("form", [PUBLISHED, {}], ids=["published", "sound"])
@pytest.mark.parametrize(
    ("horizon", "action_dim", "cameras", "queries"), [(1, 2, 1, 3), (8, 7, 2, 8), (25, 14, 4, 5)]
)
@pytest.mark.parametrize("noisy", [False, True])
def test_head_equals_its_equations(form, horizon, action_dim, cameras, queries, noisy):
    config = tiny_config(cameras, form, horizon=horizon, action_dim=action_dim, action_queries=queries)
    head, features = random_head(config), random_features(config)
    state = torch.randn(2, config.state_dim)
    noise = torch.randn(horizon, action_dim * config.llm.width) * 0.02 if noisy else None
    with torch.no_grad():
        ours = head.sample(features, state, noise=noise).numpy()
    w = {k: v.numpy().astype(np.float64) for k, v in head.state_dict().items()}
    z = noise.numpy() if noisy else np.zeros((horizon, action_dim * config.llm.width))
    for b in range(2):
        task, query = (
            [h[b].numpy().astype(np.float64) for h in hs]
            for hs in (features.task_layers, features.query_layers)
        )
        expected = naive_head(
            w, config.head, config.llm.layers, task, query, state[b].numpy(), z.astype(np.float64)
        )
        assert np.abs(ours[b] - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("dim", [16, 112])
def test_rotary_tables_follow_the_formula(dim):
    for precision, bf16 in (("float32", False), ("bfloat16", True)):
        cos, sin = rotary_table(600, dim, precision)
        for n in (0, 1, 7, 64, 255, 257, 512, 599):
            expected = np.array([cos_sin(n, j, dim, bf16) for j in range(dim)]).T
            # a cosine of float32 may differ by its last bit, which bfloat16 may turn into one of its own
            assert np.allclose(cos[n], expected[0], atol=2**-8 if bf16 else 1e-6)
            assert np.allclose(sin[n], expected[1], atol=2**-8 if bf16 else 1e-6)


def test_bfloat16_table_knows_only_even_positions_above_256():
    cos, _ = rotary_table(300, 112, "bfloat16")
    exact, _ = rotary_table(300, 112, "float32")
    assert torch.equal(cos[257], cos[256]) and torch.equal(cos[259], cos[260])
    assert not torch.equal(exact[257], exact[256])
    assert torch.equal(cos, cos.bfloat16().float())


def test_only_the_sound_pairing_is_a_rotation():
    z = torch.randn(3, 40, 16, dtype=torch.float64)
    halves, mixed = Rotary(40, 16, "halves").double(), Rotary(40, 16, "mixed").double()
    assert torch.allclose(halves(z).norm(dim=-1), z.norm(dim=-1), rtol=1e-5)
    assert not torch.allclose(mixed(z).norm(dim=-1), z.norm(dim=-1), rtol=1e-2)
    q, k = torch.randn(16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    scores = (
        halves(q.expand(40, 16)) @ halves(k.expand(40, 16)).T
    )  # depends on the difference of positions alone
    assert torch.allclose(scores[0, 5], scores[30, 35], rtol=1e-5)


@pytest.mark.parametrize(("form", "closes"), [({}, True), (PUBLISHED, False)], ids=["sound", "published"])
def test_a_gate_of_zero_closes_the_task_branch_in_the_sound_form_only(form, closes):
    config = tiny_config(head=form)
    head, features = random_head(config), random_features(config)
    other = random_features(config, seed=2)
    swapped = Features(task_layers=other.task_layers, query_layers=features.query_layers)
    state = torch.randn(2, config.state_dim)
    with torch.no_grad():
        assert not torch.allclose(head.sample(features, state), head.sample(swapped, state))
        for b in head.mlp_resnet_blocks:
            b.gating_factor.zero_()
        assert torch.equal(head.sample(features, state), head.sample(swapped, state)) == closes


def test_a_closed_gate_can_open_again():
    block = ProBlock(64, HeadConfig(heads=4, gate_init=0.0))
    rotary, h = Rotary(16, 16), torch.randn(2, 16, 64)
    block(h[:, :4], block.condition(h, h[:, :5], rotary), rotary).sum().backward()
    assert block.gating_factor.grad.abs().item() > 0


@pytest.mark.parametrize(("action_dim", "expected"), [(7, 217_864_223), (14, 223_502_758), (16, 225_113_768)])
def test_published_sizes(action_dim, expected):
    state_dim = {7: 8, 14: 14, 16: 16}[action_dim]
    with torch.device("meta"):
        head = L1Head(presets.published(("a", "b"), state_dim, action_dim, 8, 0.05))
    projector = sum(p.numel() for p in head.proprio_projector.parameters())
    assert projector == {8: 811_776, 14: 817_152, 16: 818_944}[state_dim]
    assert sum(p.numel() for p in head.parameters()) - projector == expected
    names = [name for name in head.state_dict() if not name.startswith("proprio_projector.")]
    assert len(names) == 560
    assert {n.removeprefix("mlp_resnet_blocks.23.").rsplit(".", 1)[0] for n in names if ".23." in n} == {
        "q_proj", "k_self", "v_self", "k_adapter", "v_adapter", "k_task", "v_task", "o_proj",
        "ffn.0", "ffn.1", "film_gen.0", "gating_factor",
    }  # fmt: skip


def test_prepared_stem_gives_the_same_chunk_and_follows_new_weights():
    config = tiny_config()
    head, features, state = random_head(config), random_features(config), torch.randn(2, config.state_dim)
    with torch.no_grad():
        plain = head.sample(features, state)
        head.prepare()
        assert torch.equal(head.sample(features, state), plain)
        head.train()
        head.layer_norm1.bias.add_(1.0)
        assert not torch.equal(head.eval().sample(features, state), plain)


def test_masked_loss_ignores_padding():
    config = tiny_config()
    head, features, state = random_head(config), random_features(config), torch.randn(2, config.state_dim)
    actions = torch.randn(2, config.horizon, config.action_dim)
    mask = torch.ones(2, config.horizon)
    mask[1, 3:] = 0
    result = head.loss(features, actions, state, mask)
    garbage = torch.where(mask[..., None] > 0, actions, torch.full_like(actions, 1e6))
    assert head.loss(features, garbage, state, mask).loss == result.loss
    valid = torch.cat([result.per_element[0].flatten(), result.per_element[1, :3].flatten()])
    assert torch.allclose(result.loss, valid.mean())


def test_training_noise_is_drawn_afresh_unless_handed_in():
    config = tiny_config(head=PUBLISHED)
    head, features, state = random_head(config), random_features(config), torch.randn(2, config.state_dim)
    actions = torch.zeros(2, config.horizon, config.action_dim)
    assert head.loss(features, actions, state).loss != head.loss(features, actions, state).loss
    noise = 0.02 * torch.randn(config.horizon, config.action_dim * config.llm.width)
    first, second = (head.loss(features, actions, state, noise=noise).loss for _ in range(2))
    assert first == second


def test_a_backbone_without_layer_states_is_refused():
    config = tiny_config()
    with pytest.raises(ValueError, match="task_layers"):
        random_head(config).sample(Features(pooled=torch.zeros(1, 8)), torch.zeros(1, config.state_dim))
