"""What a training takes over from the checkpoint that it starts from."""

import numpy as np
import pytest
import torch
from training_episodes import CAMERAS, RIG, write
from training_model import SETTINGS

from vla_model import presets
from vla_model.checkpoint import load
from vla_model.policy import build_policy
from vla_rig.rig_file import load_rig
from vla_training.episodes import TrainingError, find_episodes, read_episodes
from vla_training.shape import arm_dims, changed
from vla_training.start import fitted_policy, freeze, fresh_policy
from vla_training.statistics import dataset_statistics


@pytest.fixture
def data(tmp_path):
    write(tmp_path, rows=5)
    return read_episodes(find_episodes(tmp_path))


def saved(data, folder, rig_text, *settings):
    config = changed(presets.small(CAMERAS, 2, 2, 4, 0.1), [*SETTINGS, *settings], data.source.action_names)
    build_policy(config, dataset_statistics(data, "rig"), rig_text).save(folder)
    return folder


LIBERO = ("gripper=libero", "gripper_dims=[1]", "constant_state=published", "vision.jpeg_quality=95")


@pytest.mark.parametrize(
    ("rig_text", "gripper", "mask"),
    [(None, "libero", [True, False]), (RIG.replace("joint: y", "joint: z"), "none", [True, True])],
    ids=["the same actions", "other actions"],
)
def test_a_gripper_convention_stays_with_the_rigs_actions(data, tmp_path, rig_text, gripper, mask):
    start = saved(data, tmp_path / "start", rig_text or data.source.rig_text, *LIBERO)
    policy, fresh = fitted_policy(data, start, None, (), 0, "cpu")
    assert policy.config.gripper == gripper and not fresh
    assert policy.checkpoint.statistics["test_rig"]["action"]["mask"] == mask
    assert policy.config.vision.jpeg_quality == 95


def test_what_is_trained_here_sees_constant_states_as_zero_when_it_acts(data, tmp_path):
    start = saved(data, tmp_path / "start", data.source.rig_text, *LIBERO)
    assert fitted_policy(data, start, None, (), 0, "cpu")[0].config.constant_state == "zero"
    changes = [*SETTINGS, "llm.vocab=512"]
    assert fresh_policy(data, "published", 4, changes, 0, "cpu").config.constant_state == "zero"


@pytest.mark.parametrize("normalization", ["bounds", "bounds_q99", "normal"])
def test_a_discrete_head_s_bins_cover_the_actions_as_they_are_learnt_and_five_percent_more(
    data, normalization
):
    settings = ["head.type=discrete", f"normalization={normalization}"]
    policy = fresh_policy(data, "small", 4, [*SETTINGS, *settings], 0, "cpu")
    head = policy.model.head
    learnt = np.concatenate([policy.action_normalizer.normalize(e.action) for e in data.episodes])
    low, high = learnt.min(0), learnt.max(0)
    np.testing.assert_allclose(head.bin_low, low - 0.05 * (high - low), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(head.bin_high, high + 0.05 * (high - low), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_s_bins_are_laid_anew_over_these_episodes(data, tmp_path):
    settings = ["head.type=discrete", "normalization=normal"]
    start = fresh_policy(data, "small", 4, [*SETTINGS, *settings], 0, "cpu")
    start.model.head.fit_range(torch.full((2,), -40.0), torch.full((2,), 40.0))
    start.save(tmp_path / "start")
    policy, fresh = fitted_policy(data, tmp_path / "start", None, (), 0, "cpu")
    assert not fresh
    assert (policy.model.head.bin_high < 10).all() and (policy.model.head.bin_low > -10).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bins_come_back_from_a_checkpoint_exactly_whatever_its_weights(data, tmp_path, dtype):
    policy = fresh_policy(data, "small", 4, [*SETTINGS, "head.type=discrete", "head.bins=64"], 0, "cpu")
    before = {name: value.clone() for name, value in policy.model.head.named_buffers()}
    policy.model.to(dtype)
    policy.save(tmp_path / "bins")
    for wanted in (None, torch.float32, torch.bfloat16):
        model = load(tmp_path / "bins", dtype=wanted).model
        assert model.head.fc2.weight.dtype == (wanted or dtype)
        assert torch.equal(model.head.bin_low, before["bin_low"])
        assert torch.equal(model.head.bin_high, before["bin_high"])


def test_a_checkpoint_takes_another_head_and_keeps_its_backbone(data, tmp_path):
    quirks = ("head.task_gate=logits", "head.step_embedding=false", "fixed_task_tokens=4")
    start = saved(data, tmp_path / "start", data.source.rig_text, *quirks)
    arms = ["head.type=dual_arm", "head.arm_dims=[1,1]"]
    policy, fresh = fitted_policy(data, start, None, arms, 0, "cpu")
    assert policy.config.head.task_gate == "output" and policy.config.head.step_embedding
    assert policy.config.fixed_task_tokens is None
    assert all(name.startswith("head.") for name in fresh) and "head.blocks.0.q_L.weight" in fresh
    bins, fresh = fitted_policy(data, start, None, ["head.type=discrete"], 0, "cpu")
    assert bins.config.head.task_gate == "logits", "the weights that stay were trained so"
    assert fresh == ["head.fc2.bias", "head.fc2.weight"]


def test_a_fixed_count_of_task_tokens_goes_with_the_number_of_cameras(data, tmp_path):
    """8 patches of two cameras and 4 queries: 8 in all would leave one camera's 4 patches none of their queries."""
    start = saved(data, tmp_path / "start", data.source.rig_text, "fixed_task_tokens=8")
    assert fitted_policy(data, start, None, (), 0, "cpu")[0].config.fixed_task_tokens == 8
    single = read_episodes(find_episodes(tmp_path), CAMERAS[:1])
    policy, fresh = fitted_policy(single, start, None, (), 0, "cpu")
    assert policy.config.fixed_task_tokens is None and not fresh
    assert (policy.config.task_tokens, policy.config.query_tokens) == (4, 4)


def test_a_vocabulary_is_that_of_the_changed_model(data, tmp_path):
    policy = fresh_policy(data, "small", 4, [*SETTINGS, "llm.vocab=300"], 0, "cpu")
    assert policy.checkpoint.tokenizer.get_vocab_size() <= 300
    start = saved(data, tmp_path / "start", data.source.rig_text)
    with pytest.raises(TrainingError, match=r"--model llm\.vocab: the tokenizer has \d+ tokens"):
        fitted_policy(data, start, None, ["llm.vocab=300"], 0, "cpu")


def test_a_frozen_backbone_is_all_but_the_head(data):
    model = fresh_policy(data, "small", 4, SETTINGS, 0, "cpu").model
    freeze(model, "backbone")
    learnt = {name.split(".")[0] for name, weight in model.named_parameters() if weight.requires_grad}
    assert learnt == {"head"}


@pytest.mark.parametrize(("rig", "arms"), [("aloha", (7, 7)), ("aloha_sim", (7, 7)), ("teleavatar", (8, 8))])
def test_arms_are_read_off_a_rigs_channels(rig, arms):
    names = load_rig(rig).action_names
    assert arm_dims(names) == arms
    config = presets.small(CAMERAS, 14, sum(arms), 8, 0.02)
    assert changed(config, ["head.type=dual_arm"], names).head.arm_dims == arms
    assert (
        changed(config, ["head.type=dual_arm", f"head.arm_dims=[1,{sum(arms) - 1}]"], names).head.arm_dims[0]
        == 1
    )


def test_arms_that_the_channels_do_not_tell_must_be_said(data):
    for names in (["arm_x", "arm_y"], ["left_a", "right_a", "left_b"], ["right_a", "left_a"], ["left_a"]):
        with pytest.raises(TrainingError, match=r'say --model "head.arm_dims=\[7,7\]"'):
            arm_dims(names)
    with pytest.raises(TrainingError, match="channels' names do not tell them: arm_x, arm_y"):
        fresh_policy(data, "small", 4, [*SETTINGS, "head.type=dual_arm"], 0, "cpu")
