import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from recorder_episodes import CAMERAS, DT_NS, header, row

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter

SMALL = {"height": 12, "width": 16}


def write(folder, rows=5, head=None, **close):
    head = head or header(**SMALL)
    writer = EpisodeWriter(folder, head)
    for t in range(rows):
        writer.append(row(t, head))
    path = writer.close(**({"end_reason": "operator", "label": "success"} | close))
    assert writer.wait_synced(60.0)
    return path


def test_raw_form_of_the_act_family_point_by_point(tmp_path):
    path = write(tmp_path, rows=3, head=header())
    assert path == tmp_path / "episode_0.hdf5"
    with h5py.File(path) as file:
        assert isinstance(file.attrs["sim"], np.bool_) and file.attrs["sim"]
        assert "compress" not in file.attrs
        for name in ("action", "observations/qpos", "observations/qvel", "observations/effort"):
            assert file[name].dtype == np.dtype("<f4") and file[name].shape == (3, 14)
        assert set(file["observations/images"]) == set(CAMERAS)
        for name in CAMERAS:
            frames = file[f"observations/images/{name}"]
            assert frames.dtype == np.uint8 and frames.shape == (3, 480, 640, 3)
            assert frames.chunks == (1, 480, 640, 3) and frames.compression is None
        assert file["language_raw"].shape == (1,) and file["substep_reasonings"].shape == (3,)
        for name in ("language_raw", "substep_reasonings"):
            info = h5py.check_string_dtype(file[name].dtype)
            assert info.encoding == "utf-8" and info.length is None
            assert file[name][0].decode("utf-8") == "hand over the cube, größer"


def test_everything_written_is_read(tmp_path):
    head = header(**SMALL)
    with EpisodeReader(write(tmp_path, rows=70, head=head)) as episode:
        assert len(episode) == 70 and episode.camera_names == list(CAMERAS)
        for t in (0, 1, 2, 63, 64, 69):
            expected = row(t, head)
            for name in ("qpos", "qvel", "effort", "action", "command"):
                np.testing.assert_array_equal(getattr(episode, name)[t], getattr(expected, name))
            for camera in CAMERAS:
                np.testing.assert_array_equal(episode.images(camera)[t], expected.images[camera])
            np.testing.assert_array_equal(episode.stream_stamps_ns[t], expected.stream_stamps_ns)
            np.testing.assert_array_equal(episode.repeated[t], expected.repeated)
        assert np.isnan(episode.ages_s[1, 0]) and episode.ages_s[2, 0] == 0
        np.testing.assert_array_equal(episode.stamps_ns, np.arange(70) * DT_NS)
        assert episode.command_sources[:2] == ["other", "teleop"]
        assert episode.interventions[2] == "velocity: left_waist; position: right_elbow"
        assert (episode.label, episode.end_reason, episode.sim) == ("success", "operator", True)
        assert episode.rig_text == head.rig and episode.rig_name == "test_rig"
        assert episode.state_names == head.state_names and episode.control_rate_hz == 50.0
        assert episode.stream_topics == head.stream_topics
        assert episode.attributes["colour_order"] == "RGB" and episode.attributes["format_version"] == 2


def test_a_rig_text_of_any_length_fits(tmp_path):
    # an HDF5 attribute ends at 64 KiB
    text = "name: long\n" + "# remark\n" * 20_000
    with EpisodeReader(write(tmp_path, head=header(**SMALL, rig=text))) as episode:
        assert episode.rig_text == text


def test_plain_act_file_is_read(tmp_path):
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file.attrs["sim"] = False
        for name in ("action", "observations/qpos", "observations/qvel", "observations/effort"):
            file.create_dataset(name, data=np.ones((7, 14), "f4"))
        file.create_dataset("observations/images/top", data=np.zeros((7, 4, 6, 3), "u1"), chunks=(1, 4, 6, 3))
    assert problems(tmp_path / "episode_0.hdf5") == []
    with EpisodeReader(tmp_path / "episode_0.hdf5") as episode:
        assert len(episode) == 7 and episode.camera_names == ["top"] and not episode.sim
        assert episode.stamps_ns is None and episode.rig_text is None and episode.instruction == ""
        assert episode.action_names[13] == "action 13"
        with pytest.raises(EpisodeError, match="no camera 'cam_high'; it has top"):
            episode.images("cam_high")
        with pytest.raises(EpisodeError, match="/vla/command"):
            _ = episode.command


def test_indices_are_contiguous_and_discard_frees_one(tmp_path):
    assert write(tmp_path).name == "episode_0.hdf5"
    writer = EpisodeWriter(tmp_path, header(**SMALL))
    writer.append(row(0, header(**SMALL)))
    assert writer.index == 1
    trashed = writer.discard()
    assert trashed.parent == tmp_path / "trash"
    with EpisodeReader(trashed) as episode:
        assert len(episode) == 1 and episode.end_reason == "discarded"
    assert write(tmp_path).name == "episode_1.hdf5"
    assert sorted(p.name for p in tmp_path.glob("*.hdf5*")) == ["episode_0.hdf5", "episode_1.hdf5"]


WRITER_PROCESS = """
import sys
sys.path.insert(0, sys.argv[2])
from recorder_episodes import header, row
from vla_recorder.episode.writer import EpisodeWriter
head = header(12, 16)
marker = int(sys.argv[3])
for _ in range(12):
    writer = EpisodeWriter(sys.argv[1], head)
    writer.append(row(0, head, image_value=marker))
    print(writer.close(str(marker)).name, flush=True)
"""


def test_two_writers_in_one_folder_never_clash(tmp_path):
    def start(marker):
        args = [sys.executable, "-c", WRITER_PROCESS, str(tmp_path), str(Path(__file__).parent), str(marker)]
        return subprocess.Popen(args, stdout=subprocess.PIPE, text=True)

    outputs = {}
    writers = {marker: start(marker) for marker in (1, 2)}
    for marker, process in writers.items():
        outputs[marker] = process.communicate(timeout=60)[0].split()
        assert process.returncode == 0
    names = outputs[1] + outputs[2]
    assert sorted(names) == sorted(f"episode_{i}.hdf5" for i in range(24))
    for marker, own in outputs.items():
        for name in own:
            with EpisodeReader(tmp_path / name) as episode:
                assert episode.end_reason == str(marker) and episode.images("cam_low")[0, 0, 0, 0] == marker


KILLED_PROCESS = """
import sys
sys.path.insert(0, sys.argv[2])
from recorder_episodes import header, row
from vla_recorder.episode.writer import EpisodeWriter
head = header(48, 64)
writer = EpisodeWriter(sys.argv[1], head)
t = 0
while True:
    writer.append(row(t, head))
    t += 1
    if t % 7 == 0:
        writer.flush()
        print(t, flush=True)
"""


@pytest.mark.parametrize("flushes_before_kill", [1, 2, 11, 30])
def test_kill_keeps_every_flushed_row(tmp_path, flushes_before_kill):
    args = [sys.executable, "-c", KILLED_PROCESS, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    flushed = [int(process.stdout.readline()) for _ in range(flushes_before_kill)][-1]
    os.kill(process.pid, signal.SIGKILL)
    flushed = max([flushed, *map(int, process.communicate()[0].split())])
    path = tmp_path / "episode_0.hdf5.partial"
    assert any("never closed" in problem for problem in problems(path))
    head = header(48, 64)
    with EpisodeReader(path) as episode:
        assert len(episode) >= flushed and episode.end_reason == ""
        np.testing.assert_array_equal(episode.stamps_ns[:flushed], np.arange(flushed) * DT_NS)
        for t in range(flushed):
            expected = row(t, head)
            np.testing.assert_array_equal(episode.action[t], expected.action)
            for camera in CAMERAS:
                np.testing.assert_array_equal(episode.images(camera)[t], expected.images[camera])
    # the index of a cut recording is not given away
    assert EpisodeWriter(tmp_path, head).index == 1


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EpisodeError, match="cannot write episodes here"):
        EpisodeWriter(tmp_path / "file" / "episodes", header(**SMALL))


def test_a_folder_that_vanishes_as_the_episode_begins(tmp_path):
    with mock.patch.object(Path, "mkdir"), pytest.raises(EpisodeError, match="cannot write episodes here"):
        EpisodeWriter(tmp_path / "gone", header(**SMALL))


def test_wrong_image_is_named_and_rows_before_stay(tmp_path):
    head = header(**SMALL)
    writer = EpisodeWriter(tmp_path, head)
    writer.append(row(0, head))
    wrong = row(1, head)
    wrong.images["cam_low"] = np.zeros((3, 4, 3), np.uint8)
    with pytest.raises(EpisodeError, match=r"'cam_low' must be \(12, 16, 3\) uint8, got \(3, 4, 3\)"):
        writer.append(wrong)
    path = writer.close("error")
    assert problems(path) == []
    with EpisodeReader(path) as episode:
        assert len(episode) == 1


DAMAGE = {
    "'sim' is missing": lambda f: f.attrs.pop("sim"),
    "'sim' is int64": lambda f: f.attrs.create("sim", 1),
    "'compress' is True, but frames are raw": lambda f: f.attrs.create("compress", True),
    "/observations/qvel is missing": lambda f: f.pop("observations/qvel"),
    "/action has 4 rows|has 5 rows, /action has 4": lambda f: f["action"].resize(4, axis=0),
    "/observations/qpos is not finite in 1 of 5": lambda f: f["observations/qpos"].write_direct(
        np.full((1, 14), np.nan, "f4"), dest_sel=np.s_[2:3]
    ),
    "/vla/stamp_ns does not rise: row 3": lambda f: f["vla/stamp_ns"].write_direct(
        np.zeros(1, "i8"), dest_sel=np.s_[3:4]
    ),
    "/observations/images has no camera": lambda f: f.pop("observations/images"),
    "cam_low has 2 rows": lambda f: f["observations/images/cam_low"].resize(2, axis=0),
    "/substep_reasonings is missing": lambda f: f.pop("substep_reasonings"),
    "format_version is 99": lambda f: f["vla"].attrs.create("format_version", 99),
    "names 14 columns, /action has 3": lambda f: (
        f.pop("action"),
        f.create_dataset("action", data=np.ones((5, 3), "f4")),
    ),
    "not an episode": lambda f: f.pop("action"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_validate_names_what_is_wrong(tmp_path, message):
    path = write(tmp_path)
    assert problems(path) == []
    with h5py.File(path, "r+") as file:
        DAMAGE[message](file)
    assert [p for p in problems(path) if any(m in p for m in message.split("|"))], problems(path)


def test_missing_or_foreign_file_is_one_clear_line(tmp_path):
    assert "no such file" in problems(tmp_path / "episode_9.hdf5")[0]
    (tmp_path / "episode_0.hdf5").write_text("text")
    assert "cannot be read as HDF5" in problems(tmp_path / "episode_0.hdf5")[0]


def test_episode_package_needs_no_ros():
    block = "import sys; sys.modules['rclpy'] = None; "
    code = (
        block
        + "import vla_recorder.episode.writer, vla_recorder.episode.reader, vla_recorder.episode.validate"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
