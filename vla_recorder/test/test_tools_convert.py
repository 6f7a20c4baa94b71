"""`episode convert to-jpeg` and `to-raw`: the frames change their form, nothing else changes at all."""

import resource
import shutil
import signal
import subprocess
import sys

import cv2
import h5py
import numpy as np
import pytest
from tool_episodes import names, picture, plain_act, run_episode, write

from vla_recorder.episode import layout
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.tools.cli import main

FORM_ATTRIBUTES = {"compress", "image_form", "jpeg_quality", "jpeg_colour"}
CAMERAS = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")


def convert(form, *arguments):
    return main(["convert", f"to-{form}", *map(str, arguments)])


def described(path) -> dict:
    """Every dataset but the frames, and every attribute: type as HDF5 encodes it, shape, chunks, bytes."""
    found = {}

    def attributes(name, item):
        for key in item.attrs:
            at = item.attrs.get_id(key)
            value = np.empty(at.shape, at.dtype)
            at.read(value)
            plain = value.tolist() if value.dtype == object else value.tobytes()
            found[name, key] = (at.get_type().encode(), at.shape, plain)

    def visit(name, item):
        if "observations/images/" in name or name == "compress_len":
            return
        attributes(name, item)
        if isinstance(item, h5py.Dataset):
            value = "empty" if item.shape is None else np.asarray(item[()])
            if item.shape is not None:  # texts live elsewhere in the file: their bytes here are addresses
                value = value.tolist() if value.dtype == object else value.tobytes()
            found[name] = (item.id.get_type().encode(), item.shape, item.chunks, item.maxshape, value)

    with h5py.File(path) as file:
        attributes("", file)
        file.visititems(visit)
    return {key: value for key, value in found.items() if key[-1] not in FORM_ATTRIBUTES}


def frames(path) -> dict:
    with EpisodeReader(path) as episode:
        return {name: episode.images(name)[: len(episode)] for name in episode.camera_names}


def add_foreign(path):
    """What other people's tools put into such files; none of it is ours to change."""
    with h5py.File(path, "r+") as file:
        file.attrs["robot"] = np.bytes_("fixed")
        file["observations"].attrs["note"] = np.array([1.5, np.nan], ">f8")
        file["observations/images"].attrs["order"] = np.array(["a", "größer"], dtype=h5py.string_dtype())
        file["foreign/deep/pairs"] = np.array([(1, 2.5)], dtype=[("a", "<i2"), ("b", ">f4")])
        file["observations"].create_dataset("depth", data=np.arange(60).reshape(3, 4, 5), compression="gzip")
        file["empty"] = h5py.Empty("f8")


@pytest.mark.parametrize("colour", ["act", "standard"])
def test_raw_to_jpeg_to_raw(tmp_path, colour, capsys):
    path = write(tmp_path, rows=130)
    add_foreign(path)
    assert convert("jpeg", path, "--to", tmp_path / "jpeg", "--quality", 90, "--colour", colour) == 0
    assert convert("raw", tmp_path / "jpeg", "--to", tmp_path / "raw") == 0
    assert "MB ->" in capsys.readouterr().out
    jpeg, raw = tmp_path / "jpeg" / path.name, tmp_path / "raw" / path.name
    assert described(jpeg) == described(path) == described(raw)
    assert problems(path) == problems(jpeg) == problems(raw) == []
    original = frames(path)
    for made in (frames(jpeg), frames(raw)):
        for camera in CAMERAS:
            assert made[camera].shape == original[camera].shape and made[camera].dtype == np.uint8
            error = np.abs(made[camera].astype(int) - original[camera])
            assert error.mean(axis=(1, 2, 3)).max() < 2 and error.max() < 40, (
                "each row is its own, colours too"
            )
    with EpisodeReader(jpeg) as episode:
        attributes = episode.attributes
        form = (episode.image_form, attributes["jpeg_quality"], attributes["jpeg_colour"])
        assert form == ("jpeg", 90, colour) and bool(episode.file.attrs["compress"])
        lengths = episode.file["compress_len"][:]
        for i, camera in enumerate(sorted(CAMERAS)):
            assert lengths[i].tolist() == [len(episode.encoded(camera, t)) for t in range(130)]
    with EpisodeReader(raw) as episode:
        assert episode.image_form == episode.attributes["image_form"] == "raw"
        assert not set(episode.attributes) & {"jpeg_quality", "jpeg_colour"}
        assert "compress" not in episode.file.attrs and "compress_len" not in episode.file


def test_what_the_loader_of_act_plus_plus_does_with_it(tmp_path):
    """act-plus-plus utils.py, EpisodicDataset: `compress` is set, so each row goes to cv2.imdecode as it is."""
    path = write(tmp_path, rows=4)
    assert convert("jpeg", path, "--to", tmp_path / "jpeg") == 0
    with h5py.File(tmp_path / "jpeg" / path.name) as file:
        assert file.attrs.get("compress", False)
        for i, camera in enumerate(CAMERAS):
            row = file[f"/observations/images/{camera}"][3]
            shown = cv2.imdecode(row, 1)
            assert np.abs(shown.astype(int) - picture(i, 2, 48, 64)).mean() < 2, "RGB, as it was recorded"


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_plain_files_of_the_act_family(tmp_path, form):
    path, other = plain_act(tmp_path / "episode_3.hdf5", form=form), {"raw": "jpeg", "jpeg": "raw"}[form]
    assert convert(other, path, "--to", tmp_path / "made") == 0
    made = tmp_path / "made" / "episode_3.hdf5"
    assert described(made) == described(path) and problems(made) == problems(path) == []
    with EpisodeReader(made) as episode:
        assert episode.image_form == other and layout.VLA not in episode.file
        for t in range(7):
            assert np.abs(episode.images("top")[t].astype(int) - picture(0, t, 48, 64)).mean() < 4


def test_files_that_cannot_be_converted_are_named_and_the_others_done(tmp_path, capsys):
    good, jpeg = write(tmp_path / "raw", rows=3), write(tmp_path / "jpeg", rows=3, form="jpeg")
    torn = tmp_path / "torn.hdf5"
    torn.write_bytes(good.read_bytes()[:3000])
    writer = write(tmp_path / "crashed", rows=3, closed=False)
    writer.flush()
    taken = tmp_path / "to" / "taken.hdf5"
    taken.parent.mkdir()
    taken.write_text("somebody's")
    shutil.copy(good, tmp_path / "taken.hdf5")
    plain = plain_act(tmp_path / "plain.hdf5")
    for arguments, said in (
        ([jpeg], "its frames are jpeg already"),
        ([torn], "torn.hdf5: cannot be read as HDF5"),
        ([writer.path], "is unfinished; `episode recover` makes an episode of it"),
        ([tmp_path / "taken.hdf5"], "taken.hdf5: exists already; nothing is overwritten"),
        ([plain, "--colour", "standard"], "a plain ACT file cannot say that its colours are 'standard'"),
    ):
        assert convert("jpeg", *arguments, "--to", tmp_path / "to") == 1
        assert said in capsys.readouterr().err
    writer.discard()
    assert names(tmp_path / "to") == ["taken.hdf5"] and taken.read_text() == "somebody's"
    assert convert("jpeg", torn, good, "--to", tmp_path / "to") == 1
    assert names(tmp_path / "to") == ["episode_0.hdf5", "taken.hdf5"]
    for quality in ("0", "101", "best"):
        with pytest.raises(SystemExit) as ended:
            convert("jpeg", good, "--to", tmp_path, "--quality", quality)
        assert ended.value.code == 2


def test_a_row_that_is_no_jpeg_is_named(tmp_path, capsys):
    path = write(tmp_path, rows=9, form="jpeg")
    with h5py.File(path, "r+") as file:
        file["observations/images/cam_low"][7] = 1
    assert convert("raw", path, "--to", tmp_path / "to") == 1
    assert "/observations/images/cam_low: row 7 cannot be decoded as JPEG" in capsys.readouterr().err
    assert names(tmp_path / "to") == []


def test_a_full_disk(tmp_path):
    path = write(tmp_path, rows=100, form="jpeg")

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = run_episode("convert", "to-raw", path, "--to", tmp_path / "to", preexec_fn=limited)
    assert done.returncode == 1, (done.returncode, done.stderr)
    to = tmp_path / "to" / "episode_0.hdf5"
    assert done.stderr == f"episode: {path}: cannot be converted to {to}: File too large\n"
    assert names(tmp_path / "to") == []


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from vla_recorder.tools import recode
from vla_recorder.tools.cli import main
append = recode.JpegFrames.append
def killed(frames, t, jpeg):
    if t == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    append(frames, t, jpeg)
recode.JpegFrames.append = killed
main(sys.argv[1:])
"""


def test_a_kill_in_the_middle_leaves_no_file_and_the_next_run_is_not_disturbed(tmp_path):
    path, to = write(tmp_path, rows=150, size=(240, 320)), tmp_path / "to"
    words = ["convert", "to-jpeg", str(path), "--to", str(to)]
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, *words])
    partial = to / ".episode_0.hdf5.unfinished"
    assert killed.returncode == -signal.SIGKILL and partial.stat().st_size > 1_000_000
    assert names(to) == [partial.name]
    assert run_episode("recover", to, check=0).stdout == "nothing to recover\n", "it is no crashed recording"
    run_episode("convert", "to-jpeg", path, "--to", to, check=0)
    assert names(to) == ["episode_0.hdf5"] and problems(to / "episode_0.hdf5") == []
    assert described(to / "episode_0.hdf5") == described(path)
