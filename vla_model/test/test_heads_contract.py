"""What holds for every head: masks, noise, gates, sizes."""

import hypothesis
import pytest
import torch
from head_cases import (
    FORMS,
    HEAD_TYPES,
    head_config,
    noise_of,
    random_actions,
    random_features,
    random_head,
    random_state,
)
from hypothesis import strategies as st

from vla_model import presets
from vla_model.adapter import HEADS
from vla_model.features import Features

every_head = pytest.mark.parametrize("kind", HEAD_TYPES)
every_form = pytest.mark.parametrize("form", FORMS)


def gradients(head, loss):
    head.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in head.parameters() if p.grad is not None]


@every_head
@hypothesis.given(mask=st.lists(st.booleans(), min_size=4, max_size=4), data=st.data())
@hypothesis.settings(max_examples=10, deadline=None)
def test_masked_elements_have_no_influence_whatever_they_hold(kind, mask, data):
    config = head_config(kind, horizon=4)
    head, features, state = random_head(config), random_features(config), random_state(config)
    step_mask = torch.tensor([[True, True, True, False], mask])
    dim_mask = torch.tensor([True, False, True, True, False, True])
    valid = step_mask[..., None] & dim_mask
    actions = random_actions(config)
    rubbish = data.draw(st.sampled_from([float("nan"), float("inf"), -1e30, 0.0]))
    spoilt = actions.masked_fill(~valid, rubbish)
    first, second = (head.loss(features, a, state, step_mask, dim_mask) for a in (actions, spoilt))
    assert torch.equal(first.loss, second.loss) and torch.equal(first.per_element, second.per_element)
    assert all(torch.equal(first.metrics[name], second.metrics[name]) for name in first.metrics)
    before, after = gradients(head, first.loss), gradients(head, second.loss)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.allclose(first.loss, first.per_element[valid].mean())


@every_head
def test_nothing_valid_is_no_loss_and_no_gradient(kind):
    config = head_config(kind)
    head, features, state = random_head(config), random_features(config), random_state(config)
    result = head.loss(features, random_actions(config), state, torch.zeros(2, config.horizon))
    assert result.loss == 0
    assert all((g == 0).all() for g in gradients(head, result.loss))


@every_head
def test_a_loss_without_masks_is_that_of_full_masks(kind):
    config = head_config(kind)
    head, features, state = random_head(config), random_features(config), random_state(config)
    actions = random_actions(config)
    full = torch.ones(2, config.horizon), torch.ones(config.action_dim)
    assert head.loss(features, actions, state).loss == head.loss(features, actions, state, *full).loss


@pytest.mark.parametrize("kind", ["base", "pro", "dual-arm"])
def test_the_first_step_s_error_is_reported_apart(kind):
    config = head_config(kind)
    head, features, state = random_head(config), random_features(config), random_state(config)
    mask = torch.ones(2, config.horizon)
    mask[1] = 0
    with torch.no_grad():
        result = head.loss(features, random_actions(config), state, mask)
    assert result.metrics["l1_first_step"] == pytest.approx(result.per_element[0, 0].mean().item())
    assert result.metrics["l1_first_step"] != pytest.approx(result.loss.item())


@every_head
def test_training_noise_is_drawn_afresh_unless_handed_in_and_sampling_has_none(kind):
    config = head_config(kind, "published")
    head, features, state = random_head(config), random_features(config), random_state(config)
    actions, noise = random_actions(config), noise_of(config)
    assert head.loss(features, actions, state).loss != head.loss(features, actions, state).loss
    first, second = (head.loss(features, actions, state, noise=noise).loss for _ in range(2))
    assert first == second
    assert torch.equal(head.sample(features, state), head.sample(features, state))


@every_head
def test_training_noise_has_the_spread_of_the_config_and_the_shape_of_the_injected_one(kind):
    config = head_config(kind, head={"stem_noise_std": 0.3})
    head = random_head(config)
    torch.manual_seed(0)
    noise = head.training_noise()
    assert noise.shape == noise_of(config).shape
    assert noise.std().item() == pytest.approx(0.3, rel=0.1)
    assert random_head(head_config(kind)).training_noise() is None


@every_form
@every_head
def test_a_gate_of_zero_closes_the_task_branch_in_the_sound_form_only(kind, form):
    config = head_config(kind, form)
    head, features, state = random_head(config), random_features(config), random_state(config)
    other = random_features(config, seed=9)
    swapped = Features(task_layers=other.task_layers, query_layers=features.query_layers)
    raw = head.logits if config.head.type == "discrete" else head.sample
    with torch.no_grad():
        assert not torch.allclose(raw(features, state), raw(swapped, state))
        close_gates(head)
        assert torch.equal(raw(features, state), raw(swapped, state)) == (form == "sound")


@every_head
def test_a_closed_gate_can_open_again(kind):
    config = head_config(kind)
    head, features, state = random_head(config), random_features(config), random_state(config)
    close_gates(head)
    head.loss(features, random_actions(config), state).loss.backward()
    assert all(gate.grad.abs().item() > 0 for gate in gates(head))


@every_head
def test_the_state_and_every_query_token_reach_the_chunk(kind):
    config = head_config(kind)
    head, features, state = (
        random_head(config),
        random_features(config),
        random_state(config).requires_grad_(),
    )
    for h in (*features.task_layers[1:], *features.query_layers[1:]):
        h.requires_grad_()
    head.loss(features, random_actions(config), state).loss.backward()
    for h in (state, *features.task_layers[1:], *features.query_layers[1:]):
        assert (h.grad != 0).any(dim=-1).all()


def gates(head):
    return [p for name, p in head.named_parameters() if "gating" in name]


def close_gates(head):
    with torch.no_grad():
        for gate in gates(head):
            gate.zero_()


@every_head
def test_rows_of_a_chunk_are_told_apart_unless_the_block_is_base_without_a_step_embedding(kind):
    """The published base head gives one action, repeated: its rows start alike and nothing knows their order."""
    for form in FORMS:
        config = head_config(kind, form)
        head, features, state = random_head(config), random_features(config), random_state(config)
        raw = head.logits if config.head.type == "discrete" else head.sample
        with torch.no_grad():
            rows, noisy = raw(features, state), raw(features, state, noise_of(config))
        assert (spread(rows) < 1e-5) == (kind.endswith("base") and form == "published")
        assert spread(noisy) > 1e-4


def spread(rows):
    """How far any row of the chunk is from the first one."""
    return (rows - rows[:, :1]).abs().max()


@pytest.mark.parametrize(
    ("block", "action_dim", "expected"),
    [
        ("base", 7, 102_129_695), ("base", 14, 107_768_230), ("base", 16, 109_379_240),
        ("pro", 7, 217_864_223), ("pro", 14, 223_502_758), ("pro", 16, 225_113_768),
    ],
)  # fmt: skip
def test_published_sizes(block, action_dim, expected):
    head, projector, names = published(action_dim, block=block)
    assert projector == {7: 811_776, 14: 817_152, 16: 818_944}[action_dim]
    assert size(head) - projector == expected
    assert len(names) == {"base": 320, "pro": 560}[block]
    last = {n.removeprefix("mlp_resnet_blocks.23.").rsplit(".", 1)[0] for n in names if ".23." in n}
    own = {
        "base": {"k_proj", "v_proj"},
        "pro": {"k_self", "v_self", "k_adapter", "v_adapter", "k_task", "v_task", "film_gen.0"},
    }
    assert last == {"q_proj", "o_proj", "ffn.0", "ffn.1", "gating_factor"} | own[block]


@pytest.mark.parametrize(("block", "l1"), [("base", 107_768_230), ("pro", 223_502_758)])
def test_a_discrete_head_is_the_l1_head_with_a_wider_output(block, l1):
    head, projector, names = published(14, type="discrete", block=block)
    assert size(head) - projector == l1 + 896 * 14 * 255 + 14 * 255  # 256 rows of fc2 for each one
    assert len(names) == {"base": 320, "pro": 560}[block] + 2  # bin_low, bin_high


@pytest.mark.parametrize("arms", [(7, 7), (8, 8)])
def test_a_dual_arm_head_has_the_size_of_its_equations(arms):
    """Per arm and block: q, o, k and v of four sources, the feed-forward layer (11 matrices), a LayerNorm."""
    linear, norm = 896 * 896 + 896, 2 * 896
    block = 2 * (11 * linear + norm) + 1  # one gate for both arms
    assert block == 17_685_249
    expected = 24 * block + 2 * norm + sum(896 * dim + dim for dim in arms)
    assert expected == {(7, 7): 424_462_118, (8, 8): 424_463_912}[arms]
    head, projector, names = published(sum(arms), action_queries=128, type="dual_arm", arm_dims=arms)
    assert size(head) - projector == expected
    assert len(names) == 24 * (2 * (11 * 2 + 2) + 1) + 2 * 4


def published(action_dim, action_queries=64, **head):
    """A head of the published width on no device, its state projector's size, and the names of the rest."""
    config = presets.published(
        ("a", "b"), {7: 8, 14: 14, 16: 16}[action_dim], action_dim, 8, 0.05,
        head=presets.published_head(**head), action_queries=action_queries,
    )  # fmt: skip
    with torch.device("meta"):
        built = HEADS[config.head.type](config)
    names = [name for name in built.state_dict() if not name.startswith("proprio_projector.")]
    return built, size(built.proprio_projector), names


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@every_form
@every_head
def test_on_a_gpu_a_head_gives_what_it_gives_on_the_cpu_and_never_waits_for_it(kind, form):
    config = head_config(kind, form, horizon=25)
    head, features, state = random_head(config), random_features(config), random_state(config)
    actions, noise, mask = random_actions(config), noise_of(config), torch.ones(2, 25)
    raw = "logits" if config.head.type == "discrete" else "sample"
    with torch.no_grad():
        expected = getattr(head, raw)(features, state), head.loss(features, actions, state, mask, noise=noise)
        head.cuda()
        features = Features(
            task_layers=tuple(h.cuda() for h in features.task_layers),
            query_layers=tuple(h.cuda() for h in features.query_layers),
        )
        state, actions, mask, noise = (t.cuda() for t in (state, actions, mask, noise))
        torch.cuda.synchronize()
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            head.sample(features, state)
            chunk, result = (
                getattr(head, raw)(features, state),
                head.loss(features, actions, state, mask, noise=noise),
            )
        finally:
            torch.cuda.set_sync_debug_mode(before)
    torch.testing.assert_close(chunk.cpu(), expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.loss.cpu(), expected[1].loss, rtol=1e-4, atol=1e-4)


@every_head
def test_a_backbone_without_layer_states_is_refused(kind):
    config = head_config(kind)
    head = random_head(config)
    with pytest.raises(
        ValueError, match=f"{type(head).__name__} needs the features .'task_layers', 'query_l"
    ):
        head.sample(Features(pooled=torch.zeros(1, 8)), torch.zeros(1, config.state_dim))
