"""What other people's loaders ask of an episode file, written down from their rules, and asked of ours.

ACT (tonyzhaozh/act 742c753, utils.py), ACT++ (MarkFzp/act-plus-plus 26bab07, utils.py), DexVLA (fc21a82,
data_utils/utils.py), openpi (15a9616, examples/aloha_real/convert_aloha_data_to_lerobot.py), and the check of
LeRobot before a6015a5 (aloha_hdf5_format.py). docs/episodes.md has the outcome of their own code on our files.
"""

import fnmatch
import os

import cv2
import h5py
import numpy as np
import pytest
from recorder_episodes import CAMERAS, header, row

from vla_recorder.episode.writer import EpisodeWriter

SIZE = (48, 64)
COLOUR = (220, 40, 10)
EPISODES, ROWS = 3, 7


@pytest.fixture(params=["raw", "jpeg act", "jpeg standard"])
def form(request):
    return request.param


@pytest.fixture
def folder(tmp_path, form):
    """Three episodes and a discarded one, as the recorder leaves them, in a folder whose name has "sim"."""
    image_form, _, colour = form.partition(" ")
    head = header(*SIZE, image_form=image_form, jpeg_colour=colour or "act")
    path = tmp_path / "aloha_sim_cube"
    for episode in range(EPISODES + 1):
        writer = EpisodeWriter(path, head)
        for t in range(ROWS):
            made = row(t, head)
            made.images = {camera: np.full((*SIZE, 3), COLOUR, np.uint8) for camera in CAMERAS}
            writer.append(made)
        writer.close("operator") if episode < EPISODES else writer.discard()
        assert writer.wait_synced(60.0)
    return path


def is_colour(pixel, swapped=False):
    return np.abs(np.asarray(pixel, int) - (COLOUR[::-1] if swapped else COLOUR)).max() <= 4


def act(folder, episode, start):
    with h5py.File(folder / f"episode_{episode}.hdf5") as root:
        first = start if root.attrs["sim"] else max(0, start - 1)
        images = np.stack([root[f"/observations/images/{camera}"][start] for camera in CAMERAS])
        state = root["/observations/qpos"][start], root["/observations/qvel"][start]
        return images, *state, root["/action"][first:]


def act_plus_plus(folder):
    """The files it finds, all below the folder, and of each one frame and the actions with a base that stands."""
    for root, _, names in os.walk(folder):
        for name in fnmatch.filter(names, "*.hdf5"):
            assert "mirror" not in name and "features" not in name
            with h5py.File(os.path.join(root, name)) as file:
                frame = file["/observations/images/cam_low"][ROWS - 1]
                if file.attrs.get("compress", False):
                    frame = cv2.imdecode(frame, 1)
                assert "/base_action" not in file
                yield frame, np.concatenate([file["/action"][()], np.zeros((ROWS, 2))], axis=-1)


def openpi(path):
    with h5py.File(path) as file:
        assert "/observations/qvel" in file and "/observations/effort" in file
        frames = {}
        for camera in ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"):
            dataset = file[f"/observations/images/{camera}"]
            if dataset.ndim == 4:
                frames[camera] = dataset[:]
            else:
                decoded = [cv2.cvtColor(cv2.imdecode(data, 1), cv2.COLOR_BGR2RGB) for data in dataset]
                frames[camera] = np.array(decoded)
        return frames, file["/observations/qpos"][:], file["/action"][:]


def test_act_stacks_episodes_0_to_n(folder, form):
    lengths = []
    for episode in range(EPISODES):
        images, qpos, qvel, action = act(folder, episode, 3)
        assert qpos.shape == qvel.shape == (14,) and action.shape == (ROWS - 3, 14)
        lengths.append(len(action))
        if form == "raw":
            assert images.shape == (4, *SIZE, 3) and all(is_colour(image[9, 9]) for image in images)
        else:
            assert images.ndim != 4  # it does not know compressed frames
    assert len(set(lengths)) == 1


def test_act_plus_plus_finds_the_saved_ones_alone(folder, form):
    found = list(act_plus_plus(folder))
    assert len(found) == EPISODES  # the discarded one is not among them
    for frame, action in found:
        assert frame.shape == (*SIZE, 3) and action.shape == (ROWS, 16)
        assert is_colour(frame[9, 9], swapped=form == "jpeg standard")


def test_dexvla_reads_a_text_for_each_row(folder, form):
    with h5py.File(folder / "episode_0.hdf5") as root:
        assert root["language_raw"][0].decode("utf-8") == "hand over the cube, größer"
        assert root["substep_reasonings"][ROWS - 1].decode("utf-8") == "hand over the cube, größer"
        frame = root["/observations/images/cam_high"][2]
    if form == "raw":
        assert is_colour(cv2.resize(frame, (32, 24))[5, 5])
    else:  # it resizes the bytes of the row, then decodes them
        with pytest.raises(cv2.error):
            cv2.imdecode(cv2.resize(frame, (32, 24)), 1)


def test_openpi_reads_four_cameras(folder, form):
    for path in sorted(folder.glob("episode_*.hdf5")):
        frames, state, action = openpi(path)
        assert state.dtype == action.dtype == np.float32 and state.shape == action.shape == (ROWS, 14)
        for camera in frames.values():
            assert camera.shape == (ROWS, *SIZE, 3) and is_colour(camera[4, 9, 9], swapped=form == "jpeg act")


def test_old_lerobot_tells_the_form_by_the_name_of_the_folder(folder, form):
    for path in folder.glob("episode_*.hdf5"):
        with h5py.File(path) as data:
            assert "/action" in data and "/observations/qpos" in data
            assert data["/action"].ndim == data["/observations/qpos"].ndim == 2
            for camera in data["/observations/images/"]:
                frames = data[f"/observations/images/{camera}"]
                assert len(frames) == len(data["/action"])
                assert frames.ndim == (
                    4 if form == "raw" else 2
                )  # it wants 4 where the folder's name has "sim"


@pytest.mark.parametrize("sim", [True, False])
def test_act_pairs_rows_by_the_sim_attribute(tmp_path, sim):
    head = header(*SIZE, sim=sim)
    writer = EpisodeWriter(tmp_path, head)
    for t in range(5):
        writer.append(row(t, head))
    writer.close("operator")
    images, qpos, qvel, action = act(tmp_path, 0, 3)
    assert images.shape == (4, *SIZE, 3) and qpos[0] == 300 and qvel.shape == (14,)
    assert action[0, 0] == (-300 if sim else -200)
