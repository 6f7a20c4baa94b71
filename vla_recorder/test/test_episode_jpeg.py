"""The JPEG form: as ACT++ pads it, written while it happens, read as if it were raw."""

import cv2
import h5py
import numpy as np
import pytest
from recorder_episodes import CAMERAS, header, row

from vla_recorder.episode import images
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter

SIZE = (48, 64)


def picture(t, camera=0, noise=0):
    """Red on the left, blue on the right, brighter with t; noise makes the JPEG longer."""
    out = np.zeros((*SIZE, 3), np.uint8)
    out[:, :32] = (200, 30, 3 * t)
    out[:, 32:] = (10, 30 + 20 * camera, 190)
    if noise:
        out += np.random.default_rng(t).integers(0, noise, out.shape, dtype=np.uint8)
    return out


def write(folder, rows=6, noise=None, close=True, **changes):
    head = header(*SIZE, image_form="jpeg", **changes)
    writer = EpisodeWriter(folder, head)
    for t in range(rows):
        made = row(t, head)
        level = noise[t] if noise else 0
        made.images = {camera: picture(t, i, level) for i, camera in enumerate(CAMERAS)}
        writer.append(made)
    if not close:
        return writer
    path = writer.close("operator")
    assert writer.wait_synced(60.0)
    return path


def near(image, expected):
    """JPEG blurs the border between the colours; away from it, it is close."""
    far = np.r_[0:28, 36:64]
    return np.abs(image[:, far].astype(int) - expected[:, far]).max() <= 6


def test_the_padded_form_point_by_point(tmp_path):
    path = write(tmp_path, rows=70, noise=[1 + 200 * (t == 40) for t in range(70)])
    assert problems(path, every_frame=True) == []
    with h5py.File(path) as file:
        assert isinstance(file.attrs["compress"], np.bool_) and file.attrs["compress"]
        lengths = file["compress_len"]
        assert lengths.shape == (4, 70) and lengths.dtype == np.dtype("<f4")
        for c, camera in enumerate(file["observations/images"]):  # HDF5's order, as the readers index it
            rows = file[f"observations/images/{camera}"]
            assert rows.dtype == np.uint8 and rows.ndim == 2 and rows.shape[0] == 70
            assert lengths[c].max() <= rows.shape[1] < lengths[c].max() + (16 << 10)
            for t in (0, 39, 40, 69):
                size = int(lengths[c, t])
                assert rows[t, size - 2 : size].tobytes() == b"\xff\xd9" and not rows[t, size:].any()
                decoded = cv2.imdecode(rows[t], 1)
                if t != 40:
                    assert near(decoded, picture(t, CAMERAS.index(camera), 1))


def test_both_colours_read_as_rgb_and_say_which_they_are(tmp_path):
    for colour, in_file in (("act", (200, 30, 15)), ("standard", (15, 30, 200))):
        path = write(tmp_path / colour, jpeg_colour=colour, jpeg_quality=90)
        with EpisodeReader(path) as episode:
            assert episode.image_form == "jpeg" and episode.jpeg_colour == colour
            assert episode.attributes["jpeg_quality"] == 90
            assert near(episode.images("cam_low")[5], picture(5, 1))
            raw = cv2.imdecode(np.frombuffer(episode.encoded("cam_low", 5), np.uint8), 1)
            assert np.abs(raw[20, 10].astype(int) - in_file).max() <= 6


def test_frames_are_read_like_raw_ones(tmp_path):
    with EpisodeReader(write(tmp_path)) as episode:
        frames = episode.images("cam_high")
        assert frames.shape == (6, *SIZE, 3) and frames.dtype == np.uint8 and frames.ndim == 4
        assert len(frames) == len(episode) == 6
        np.testing.assert_array_equal(frames[-1], frames[np.int64(5)])
        np.testing.assert_array_equal(frames[1:6:2], np.stack([frames[t] for t in (1, 3, 5)]))
        assert frames[4:2].shape == (0, *SIZE, 3) and frames[:].shape == frames.shape
        with pytest.raises(IndexError):
            frames[6]
        assert sum(1 for _ in frames) == 6


def test_quality_is_what_the_header_says(tmp_path):
    lengths = []
    for quality in (30, 95):
        path = write(tmp_path, noise=[40] * 6, jpeg_quality=quality)
        with EpisodeReader(path) as episode:
            lengths.append(len(episode.encoded("cam_low", 0)))
    assert lengths[0] < 0.6 * lengths[1]


def test_bytes_are_written_as_they_are(tmp_path):
    head = header(*SIZE, image_form="jpeg")
    writer, made = EpisodeWriter(tmp_path, head), row(0, head)
    made.images = {camera: images.encode(picture(3), 70, "act") for camera in CAMERAS}
    expected = dict(made.images)
    writer.append(made)
    with EpisodeReader(writer.close("operator")) as episode:
        assert {camera: episode.encoded(camera, 0) for camera in CAMERAS} == expected


def test_a_plain_file_of_act_plus_plus_is_read(tmp_path):
    """One padding for all cameras, one chunk a row, nothing of ours; lengths in the writer's order of cameras."""
    encoded = {
        camera: [images.encode(picture(t, i, 60 * i + 1), 50, "act") for t in range(3)]
        for i, camera in enumerate(CAMERAS)
    }
    padding = max(len(data) for frames in encoded.values() for data in frames)
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, True
        for name in ("action", "observations/qpos", "observations/qvel", "observations/effort"):
            file.create_dataset(name, data=np.ones((3, 14), "f4"))
        for camera, frames in encoded.items():
            rows = [np.frombuffer(data.ljust(padding, b"\0"), np.uint8) for data in frames]
            file.create_dataset(f"observations/images/{camera}", data=np.stack(rows), chunks=(1, padding))
        file["compress_len"] = np.array([[len(data) for data in frames] for frames in encoded.values()], "f4")
    assert problems(tmp_path / "episode_0.hdf5", every_frame=True) == []
    with EpisodeReader(tmp_path / "episode_0.hdf5") as episode:
        assert episode.images("cam_high").shape == (3, *SIZE, 3)
        assert near(episode.images("cam_high")[2], picture(2, 0, 1))
        assert all(episode.encoded(camera, 1) == encoded[camera][1] for camera in CAMERAS)


def test_a_frame_that_is_no_picture_is_named(tmp_path):
    path = write(tmp_path, rows=70)
    with h5py.File(path, "r+") as file:
        file["observations/images/cam_low"][40, 100:] = 0
        file["observations/images/cam_low"][40, :100] = 1
    with (
        EpisodeReader(path) as episode,
        pytest.raises(EpisodeError, match="cam_low: row 40 cannot be decoded"),
    ):
        episode.images("cam_low")[40]
    assert problems(path) == []  # it samples
    assert [p for p in problems(path, every_frame=True) if "cam_low: row 40 cannot be decoded as JPEG" in p]


@pytest.mark.parametrize(
    ("damage", "message"),
    {
        "compress": (lambda f: f.attrs.pop("compress"), "'compress' is False, but frames are jpeg"),
        "lengths": (lambda f: f.pop("compress_len"), "/compress_len is missing"),
        "length": (
            lambda f: f["compress_len"].write_direct(np.zeros((4, 6), "f4")),
            "does not fit the frames",
        ),
        "form": (lambda f: f["vla"].attrs.create("image_form", "raw"), "image_form is raw"),
        "colour": (lambda f: f["vla"].attrs.create("jpeg_colour", "green"), "jpeg_colour is green"),
        "rows": (lambda f: f["observations/images/cam_high"].resize(4, axis=0), "cam_high has 4 rows"),
    }.values(),
)
def test_validate_names_what_is_wrong_with_the_jpeg_form(tmp_path, damage, message):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        damage(file)
    assert [problem for problem in problems(path) if message in problem], problems(path)


def test_a_wrong_frame_is_refused_before_anything_is_written(tmp_path):
    writer = write(tmp_path, rows=2, close=False)
    wrong = row(2, writer.header)
    wrong.images["cam_high"] = wrong.images["cam_high"][:-1]
    with pytest.raises(EpisodeError, match=r"'cam_high' must be \(48, 64, 3\) uint8, got \(47, 64, 3\)"):
        writer.append(wrong)
    wrong.images["cam_high"] = b""
    with pytest.raises(EpisodeError, match="'cam_high' must be"):
        writer.append(wrong)
    with EpisodeReader(writer.close("operator")) as episode:
        assert len(episode) == 2


def test_raw_frames_have_no_bytes(tmp_path):
    head = header(*SIZE)
    writer = EpisodeWriter(tmp_path, head)
    writer.append(row(0, head))
    with EpisodeReader(writer.close("operator")) as episode:
        with pytest.raises(EpisodeError, match="camera 'cam_low' has raw frames, not JPEG"):
            episode.encoded("cam_low", 0)
