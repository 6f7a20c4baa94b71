"""The dual-arm head: two arms alike but for their weights, joined by Inter-Arm Attention alone."""

import pytest
import torch
from head_cases import FORMS, head_config, noise_of, random_features, random_head, random_state
from tiny_model import tiny_config

from vla_model.features import Features


def swapped(features):
    """The same task tokens, the arms' query tokens exchanged."""
    queries = tuple(torch.cat(h.chunk(2, dim=1)[::-1], dim=1) for h in features.query_layers)
    return Features(task_layers=features.task_layers, query_layers=queries)


def exchanged(head, config):
    """A head whose left arm has the given head's right-arm weights, and the other way round."""

    def other(name):
        return name.translate(str.maketrans("LR", "RL"))

    arms = config.head.arm_dims[::-1]
    twin = random_head(config.model_copy(update={"head": config.head.model_copy(update={"arm_dims": arms})}))
    weights = {other(name): value for name, value in head.state_dict().items()}
    if "step_embedding" in weights:
        weights["step_embedding"] = weights["step_embedding"].flip(0)
    twin.load_state_dict(weights)
    return twin


@pytest.mark.parametrize("form", FORMS)
def test_exchanging_the_arms_weights_and_queries_exchanges_their_actions(form):
    config = head_config("dual-arm", form, action_dim=7)  # 3 + 4
    head, features, state = random_head(config), random_features(config), random_state(config)
    noise = noise_of(config)
    with torch.no_grad():
        left, right = head.sample(features, state, noise).split([3, 4], dim=-1)
        twin = exchanged(head, config).sample(swapped(features), state, noise.flip(0))
    assert torch.allclose(torch.cat([right, left], dim=-1), twin, atol=1e-5)


def test_arms_of_equal_weights_exchange_their_actions_with_their_queries():
    config = head_config("dual-arm")
    head, features, state = random_head(config), random_features(config), random_state(config)
    weights = head.state_dict()
    head.load_state_dict({name: weights[name.replace("_R", "_L")] for name in weights}, strict=True)
    with torch.no_grad():
        head.step_embedding[1] = head.step_embedding[0]
        chunk = head.sample(features, state)
        twin = head.sample(swapped(features), state)
    left, right = chunk.chunk(2, dim=-1)
    assert torch.allclose(torch.cat([right, left], dim=-1), twin, atol=1e-5)
    assert not torch.allclose(left, right)


@pytest.mark.parametrize(("layers", "reaches"), [(1, False), (2, True)])
def test_an_arm_learns_of_the_other_s_query_tokens_one_block_later(layers, reaches):
    """Both arms read each other as they were before the block."""
    llm = tiny_config().llm.model_copy(update={"layers": layers})
    config = head_config("dual-arm", llm=llm)
    head, features, state = random_head(config), random_features(config), random_state(config)
    half = config.query_tokens // 2
    other = tuple(
        torch.cat([h[:, :half], torch.randn_like(h[:, half:])], dim=1) for h in features.query_layers
    )
    with torch.no_grad():
        before = head.sample(features, state)
        after = head.sample(Features(task_layers=features.task_layers, query_layers=other), state)
    left, right = (after - before).abs().chunk(2, dim=-1)
    assert right.max() > 1e-4
    assert (left.max() > 1e-5) == reaches


def test_arms_that_do_not_sum_to_the_action_are_refused():
    for arms in (None, (3, 4), (0, 6)):
        with pytest.raises(ValueError, match=r"head\.arm_dims must be two counts that sum to action_dim 6"):
            head_config("dual-arm", head={"arm_dims": arms})
    with pytest.raises(ValueError, match="splits its 7 query tokens"):
        head_config("dual-arm", action_queries=7)
