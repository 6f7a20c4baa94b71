"""What a training takes over from the checkpoint that it starts from."""

import pytest
from training_episodes import CAMERAS, RIG, write
from training_model import SETTINGS

from vla_model import presets
from vla_model.policy import build_policy
from vla_training.episodes import find_episodes, read_episodes
from vla_training.start import _changed, fitted_policy, fresh_policy
from vla_training.statistics import dataset_statistics


@pytest.fixture
def data(tmp_path):
    write(tmp_path, rows=5)
    return read_episodes(find_episodes(tmp_path))


def saved(data, folder, rig_text, *settings):
    config = _changed(presets.small(CAMERAS, 2, 2, 4, 0.1), [*SETTINGS, *settings])
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
    policy, fresh = fitted_policy(data, start, None, 0, "cpu")
    assert policy.config.gripper == gripper and not fresh
    assert policy.checkpoint.statistics["test_rig"]["action"]["mask"] == mask
    assert policy.config.vision.jpeg_quality == 95


def test_what_is_trained_here_sees_constant_states_as_zero_when_it_acts(data, tmp_path):
    start = saved(data, tmp_path / "start", data.source.rig_text, *LIBERO)
    assert fitted_policy(data, start, None, 0, "cpu")[0].config.constant_state == "zero"
    changes = [*SETTINGS, "llm.vocab=512"]
    assert fresh_policy(data, "published", 4, changes, 0, "cpu").config.constant_state == "zero"
