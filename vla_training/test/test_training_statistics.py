"""dataset_statistics.json against NumPy, and that the model can read it."""

import numpy as np
import pytest
from training_episodes import CAMERAS, write

from vla_model import presets
from vla_model.normalize import normalizers
from vla_training.episodes import TrainingError, find_episodes, read_episodes
from vla_training.statistics import dataset_statistics


def test_they_are_numpys_over_all_finite_rows(tmp_path):
    write(tmp_path, goal=0, rows=9, stale={2: ("follower",), 5: ("command",)})
    write(tmp_path, goal=1, rows=7)
    data = read_episodes(find_episodes(tmp_path))
    entry = dataset_statistics(data, "rig")["rig"]
    for key, values in (
        ("proprio", np.concatenate([e.state for e in data.episodes])),
        ("action", np.concatenate([e.action for e in data.episodes])),
    ):
        values = values.astype(np.float64)
        assert np.isnan(values).any(), "the test needs a stale row"
        np.testing.assert_allclose(entry[key]["mean"], np.nanmean(values, 0))
        np.testing.assert_allclose(entry[key]["std"], np.nanstd(values, 0))
        np.testing.assert_allclose(entry[key]["min"], np.nanmin(values, 0))
        np.testing.assert_allclose(entry[key]["max"], np.nanmax(values, 0))
        np.testing.assert_allclose(entry[key]["q01"], np.nanquantile(values, 0.01, axis=0))
        np.testing.assert_allclose(entry[key]["q99"], np.nanquantile(values, 0.99, axis=0))
    assert (entry["num_transitions"], entry["num_trajectories"]) == (15, 2)


def test_normalised_data_fills_the_bounds(tmp_path):
    write(tmp_path, rows=9)
    data = read_episodes(find_episodes(tmp_path))
    _, action = normalizers(dataset_statistics(data, "rig"), presets.small(CAMERAS, 2, 2, 4, 0.1))
    z = action.normalize(data.episodes[0].action)
    np.testing.assert_allclose([z.min(0), z.max(0)], [[-1, -1], [1, 1]], atol=1e-6)


def test_grippers_are_counted_as_the_model_is_trained_on_them(tmp_path):
    write(tmp_path, rows=9)
    data = read_episodes(find_episodes(tmp_path))
    config = presets.small(CAMERAS, 2, 2, 4, 0.1, gripper="libero", gripper_dims=(1,))
    statistics = dataset_statistics(data, "rig", config.grippers)
    commanded = data.episodes[0].action[:, 1]
    assert commanded.min() < 1 and commanded.max() > 0, "the test needs commands within [0, 1]"
    assert statistics["rig"]["action"]["mask"] == [True, False]
    assert statistics["rig"]["action"]["mean"][1] == pytest.approx(np.mean(1 - np.clip(commanded, 0, 1)))
    _, action = normalizers(statistics, config)
    targets = action.normalize(data.episodes[0].action)
    np.testing.assert_allclose(targets[:, 1], 1 - np.clip(commanded, 0, 1), atol=1e-6)


def test_episodes_without_a_known_action_are_refused(tmp_path):
    write(tmp_path, rows=3, stale={t: ("command",) for t in range(3)})
    with pytest.raises(TrainingError, match="finite action"):
        dataset_statistics(read_episodes(find_episodes(tmp_path)), "rig")
