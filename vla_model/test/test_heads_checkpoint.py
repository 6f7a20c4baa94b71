"""A policy of any head acts the same after a trip through a checkpoint directory."""

import numpy as np
import pytest
import torch
from head_cases import FORMS, HEAD_TYPES, head_config
from tiny_model import observation, statistics

from vla_model.policy import Policy, build_policy


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_a_saved_policy_predicts_the_same(kind, form, tmp_path):
    untrained = build_policy(head_config(kind, form), statistics(), "name: rig\n", seed=3)
    low, high = torch.linspace(-3, -1, 6), torch.linspace(0.5, 2, 6)
    untrained.model.head.fit_range(low, high)
    untrained.save(tmp_path / "one")
    one = Policy.from_checkpoint(tmp_path / "one", "cpu")
    one.save(tmp_path / "two")
    two = Policy.from_checkpoint(tmp_path / "two", "cpu")
    chunk = one.predict(observation())
    assert chunk.shape == (one.horizon, 6) and np.isfinite(chunk).all()
    np.testing.assert_array_equal(chunk, two.predict(observation()))
    if "discrete" in kind:
        z = one.action_normalizer.normalize(chunk, clip=False)
        assert (z > low.numpy() - 0.2).all() and (z < high.numpy() + 0.2).all(), (
            "within the bins, all of them"
        )
