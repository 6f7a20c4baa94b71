"""Which rows become items, and what their chunks hold."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_episodes import RIG, STREAMS, target, write, write_plain

from vla_recorder.episode import layout
from vla_training.dataset import chunk, usable_rows
from vla_training.episodes import EpisodeSet, Rows, Source, TrainingError, find_episodes, read_episodes

SOURCE = Source(("a",), ("a",), ("cam",), 50.0, None)


@st.composite
def episode_sets(draw):
    """Episodes whose action is 1000 * episode + row, so that every number says where it comes from."""
    episodes = []
    for e in range(draw(st.integers(1, 3))):
        T = draw(st.integers(1, 12))
        observed, commanded = (
            np.array(draw(st.lists(st.booleans(), min_size=T, max_size=T))) for _ in range(2)
        )
        action = 1000.0 * e + np.arange(T, dtype=np.float32)[:, None]
        action[~commanded] = np.nan
        episodes.append(Rows(Path(f"episode_{e}.hdf5"), "go", action, action, observed, commanded))
    return EpisodeSet(SOURCE, tuple(episodes), 0)


@given(episode_sets(), st.integers(1, 15))
def test_valid_steps_are_the_actions_that_followed_and_the_rest_is_masked(data, horizon):
    for e, row in usable_rows(data, horizon):
        episode = data.episodes[e]
        actions, mask = chunk(episode, row, horizon)
        assert actions.shape == (horizon, 1) and mask.shape == (horizon,) and mask.any()
        for k in range(horizon):
            known = row + k < len(episode) and episode.commanded[row + k]
            assert mask[k] == known
            if known:
                assert actions[k, 0] == 1000 * e + row + k
        padding = actions[~mask, 0]
        assert np.isin(padding, actions[mask, 0]).all(), "padding repeats a known action of the same chunk"


@given(episode_sets(), st.integers(1, 15))
def test_a_row_is_an_item_when_observed_and_followed_by_a_known_action(data, horizon):
    items = {tuple(pair) for pair in usable_rows(data, horizon).tolist()}
    wanted = {
        (e, t)
        for e, episode in enumerate(data.episodes)
        for t in range(len(episode))
        if episode.observed[t] and episode.commanded[t : t + horizon].any()
    }
    assert items == wanted


def test_stale_rows_are_left_out_and_counted(tmp_path):
    write(tmp_path, rows=10, stale={2: ("front",), 3: ("follower",), 5: ("command",)})
    data = read_episodes(find_episodes(tmp_path))
    (episode,) = data.episodes
    assert np.flatnonzero(~episode.observed).tolist() == [2, 3], (
        "a stale command does not spoil what was seen"
    )
    assert np.flatnonzero(~episode.commanded).tolist() == [5]
    assert data.left_out == 2
    assert usable_rows(data, 4)[:, 1].tolist() == [0, 1, 4, 5, 6, 7, 8, 9]
    assert chunk(episode, 4, 3)[1].tolist() == [True, False, True]


def test_a_command_that_is_there_but_too_old_is_no_target(tmp_path):
    file = write(tmp_path, rows=6)
    with h5py.File(file, "r+") as stored:
        stored[layout.STREAM_FRESH][4, STREAMS.index("command")] = False
    (episode,) = read_episodes([file]).episodes
    assert np.isfinite(episode.action).all()
    assert chunk(episode, 3, 3)[1].tolist() == [True, False, True]


def test_a_camera_that_is_not_used_may_be_stale(tmp_path):
    write(tmp_path, rows=6, stale={2: ("front",)})
    data = read_episodes(find_episodes(tmp_path), cameras=["wrist"])
    assert data.source.camera_names == ("wrist",) and data.left_out == 0


def test_files_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2):
        write_plain(tmp_path / f"episode_{number}.hdf5", sim=True)
    (tmp_path / "episode_3.hdf5.partial").touch()
    assert [file.name for file in find_episodes(tmp_path)] == ["episode_2.hdf5", "episode_10.hdf5"]


@pytest.mark.parametrize(
    ("sim", "shift", "first"),
    [(True, "auto", 0), (False, "auto", -1), (False, "none", 0), (False, "act", -1), (True, "act", 0)],
)
def test_plain_act_files_are_paired_as_their_own_loaders_do(tmp_path, sim, shift, first):
    data = read_episodes([write_plain(tmp_path / "episode_0.hdf5", sim)], shift=shift)
    expected = target(0, np.maximum(np.arange(12) + first, 0), 12)
    np.testing.assert_array_equal(data.episodes[0].action, expected)
    assert data.shifted == (first == -1)


def test_our_own_files_are_never_shifted_unless_asked(tmp_path):
    file = write(tmp_path, sim=False, rows=8)
    np.testing.assert_array_equal(read_episodes([file]).episodes[0].action, target(0, np.arange(8), 8))
    assert read_episodes([file], shift="act").shifted == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"state_names": ["arm_x", "arm_z"]}, "state 1 is arm_z, in .*episode_0.hdf5 it is arm_y"),
        ({"action_names": ["arm_y", "arm_x"]}, "action 0 is arm_y"),
        ({"control_rate_hz": 20.0}, "20.0 Hz"),
        ({"rig": RIG.replace("[0.0, 1.0]", "[0.1, 1.0]")}, "state channel arm_x means something else"),
        ({"rig": RIG.replace("y, quantity: position", "y, quantity: velocity")}, "channel arm_y"),
    ],
)
def test_rigs_that_differ_are_not_mixed(tmp_path, changes, named):
    write(tmp_path, rows=4)
    write(tmp_path, rows=4, **changes)
    with pytest.raises(TrainingError, match=rf"episode_1.hdf5: .*{named}"):
        read_episodes(find_episodes(tmp_path))


def test_cameras_that_differ_are_not_mixed(tmp_path):
    write(tmp_path, rows=4)
    write_plain(tmp_path / "episode_1.hdf5", sim=True)
    with pytest.raises(TrainingError, match=r"no camera side; it has: front, wrist"):
        read_episodes(find_episodes(tmp_path), cameras=["side"])


@pytest.mark.parametrize("content", [b"", b"not hdf5 at all"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "episode_0.hdf5").write_bytes(content)
    with pytest.raises(TrainingError, match=r"episode_0\.hdf5"):
        read_episodes(find_episodes(tmp_path))


def test_rows_know_their_length():
    rows = Rows(Path("x"), "go", np.zeros((3, 1)), np.zeros((3, 1)), np.ones(3, bool), np.ones(3, bool))
    assert EpisodeSet(SOURCE, (rows, dataclasses.replace(rows)), 0).rows == 6
