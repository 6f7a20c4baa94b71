"""`episode video`: decoded again, its pictures and times are those of the episode."""

import av
import h5py
import numpy as np
import pytest
from tool_episodes import names, picture, plain_act, write

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.cli import main
from vla_recorder.tools.mosaic import Mosaic, _wrapped
from vla_recorder.tools.video import codec, frame_times

CAMERAS = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")


def decoded(path):
    """[(time in s, RGB picture)] and the codec's name."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(stream)
        ]
        return frames, stream.codec_context.name


def far(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_every_row_is_a_frame_at_its_own_time(tmp_path, form):
    path = write(tmp_path, rows=24, form=form, size=(96, 128))
    assert main(["video", str(path), "--plain"]) == 0
    frames, name = decoded(tmp_path / "episode_0.mp4")
    assert name == {"libx264": "h264"}.get(codec(), codec())
    assert [at_s for at_s, _ in frames] == pytest.approx([t * 0.02 for t in range(24)], abs=2e-5)
    for t, (_, shown) in enumerate(frames):
        cells = [[picture(2 * line + column, t - t % 2, 96, 128) for column in (0, 1)] for line in (0, 1)]
        assert shown.shape == (192, 256, 3)
        assert far(shown, np.block([[[c] for c in line] for line in cells]).reshape(shown.shape)) < 4
    assert far(frames[2][1], frames[22][1]) > 6, "the test would not see a wrong row"


def test_irregular_stamps_stay_irregular(tmp_path):
    path = write(tmp_path, rows=10)
    with h5py.File(path, "r+") as file:
        file["vla/stamp_ns"][6:] += 500_000_000
    assert main(["video", str(path)]) == 0
    at_s = [at_s for at_s, _ in decoded(tmp_path / "episode_0.mp4")[0]]
    assert at_s == pytest.approx([t * 0.02 + (0.5 if t >= 6 else 0) for t in range(10)], abs=2e-5)


def test_what_is_written_on_it(tmp_path):
    """Names, row, time, sub-step; a red border around a frame that was stale."""

    def change(rows):
        rows[3].fresh[CAMERAS.index("cam_left_wrist")] = False
        for row in rows[5:]:
            row.substep = "andere Aufgabe"

    path = write(tmp_path, rows=8, change=change, size=(96, 128))
    with EpisodeReader(path) as episode:
        mosaic, plain = Mosaic(episode), Mosaic(episode, overlay=False)
        assert mosaic.size[0] > plain.size[0] and mosaic.size[1] == plain.size[1] == 256
        assert mosaic.picture(2)[:192, :256].shape == plain.picture(2).shape
        captions = [mosaic.picture(t)[192:] for t in range(8)]
        assert all(far(captions[t], captions[t + 1]) > 0.5 for t in range(7)), "each row has its own caption"
        assert far(captions[5], captions[6]) < far(captions[4], captions[5]), (
            "and a new one with the sub-step"
        )
        red = (plain.picture(3) == (214, 39, 40)).all(axis=-1)
        assert red[96:, :128].sum() > 500 and not red[:96].any() and not red[:, 128:].any()
        assert not (plain.picture(4) == (214, 39, 40)).all(axis=-1).any()


def test_long_texts_have_lines_of_their_own(tmp_path):
    """Of one narrow camera, too; what is done just now comes before the task, which may be cut."""

    def change(rows):
        for row in rows:
            row.images = {"cam_high": row.images["cam_high"]}
            row.substep = "move the left gripper above the cube and wait until the other arm is clear"

    streams = ["cam_high", "follower_left", "follower_right", "command"]
    path = write(
        tmp_path, rows=3, change=change, cameras={"cam_high": (120, 160)}, stream_names=streams, stream_topics=streams
    )  # fmt: skip
    with EpisodeReader(path) as episode:
        mosaic = Mosaic(episode)
        bar = mosaic.picture(0)[120:]
        assert bar.shape[0] >= 4 * 13 and (bar[:, :4] < 30).all() and (bar[:, -4:] < 30).all(), (
            "nothing is cut"
        )
        inked = (bar.max(axis=(1, 2)) > 200).astype(int)
        assert (np.diff(inked, prepend=0) == 1).sum() == 4, "four lines"
        lines = _wrapped("row 0   0.00 s   把方块递给右边的机械臂不要碰到桌子的边缘", 12, 148)
        assert "".join(lines).replace(" ", "").endswith("边缘") and len(lines) > 1, "no spaces to break at"


@pytest.mark.filterwarnings("ignore:Glyph")  # pytest does not know of our filter
def test_characters_that_no_font_has_are_told_once(tmp_path, capfd):
    path = write(tmp_path, rows=3, instruction="cube \U000ffffd")
    assert main(["video", str(path)]) == 0
    assert main(["inspect", str(path), "--pictures", str(tmp_path)]) == 0
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(
        "episode: no font here has \U000ffffd: boxes stand for it"
    ), said


def test_a_plain_act_file_of_three_cameras_and_a_scale(tmp_path):
    path = plain_act(tmp_path / "episode_4.hdf5", rows=5, cameras=("left", "right", "top"))
    assert main(["video", str(path), "--to", str(tmp_path / "videos"), "--scale", "0.5", "--plain"]) == 0
    frames, _ = decoded(tmp_path / "videos" / "episode_4.mp4")
    assert len(frames) == 5 and frames[0][1].shape == (48, 64, 3)
    assert frames[4][0] == pytest.approx(4 / 50)
    assert frames[0][1][24:, 32:].max() < 12, "the fourth cell is empty"


def test_times_always_rise(tmp_path):
    path = write(tmp_path, rows=6)
    with h5py.File(path, "r+") as file:
        file["vla/stamp_ns"][:] = [0, 1, 2, 5, 4, 100_000_000]
    with EpisodeReader(path) as episode:
        assert (np.diff(frame_times(episode)) > 0).all()


def test_mistakes_are_told_and_leave_nothing(tmp_path, capsys):
    path = write(tmp_path, rows=6)
    empty = tmp_path / "empty.hdf5"
    with h5py.File(empty, "w") as file:
        file["action"] = np.zeros((0, 14), "f4")
    torn = tmp_path / "torn.hdf5"
    torn.write_bytes(path.read_bytes()[:5000])
    assert main(["video", str(empty), str(torn), str(path)]) == 1
    said = capsys.readouterr()
    assert f"{empty}: has no frames to show" in said.err and f"{torn}: cannot be read as HDF5" in said.err
    assert f"{path} -> {tmp_path}/episode_0.mp4" in said.out, "the good one is done all the same"
    before = (tmp_path / "episode_0.mp4").read_bytes()
    assert main(["video", str(path)]) == 1
    assert "exists already; nothing is overwritten" in capsys.readouterr().err
    assert (tmp_path / "episode_0.mp4").read_bytes() == before
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path, capsys):
    path = write(tmp_path, rows=6, form="jpeg")
    with h5py.File(path, "r+") as file:
        file["observations/images/cam_low"][4] = 0
    assert main(["video", str(path)]) == 1
    assert "/observations/images/cam_low: row 4 cannot be decoded" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.mp4")) and not list(tmp_path.glob(".*.unfinished"))
