"""What `episode inspect` and `episode validate` say and draw."""

import json

import cv2
import h5py
import numpy as np
import pytest
from recorder_episodes import CAMERAS, header, row
from tool_episodes import write

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.writer import EpisodeWriter
from vla_recorder.quality import quality_of
from vla_recorder.tools.cli import main
from vla_recorder.tools.pictures import contact_sheet, joint_plot
from vla_recorder.tools.quality_page import quality_page


@pytest.fixture
def path(tmp_path):
    head = header(height=48, width=64, checkpoint="aloha-1 3f2a")
    writer = EpisodeWriter(tmp_path, head)
    for t in range(40):
        made = row(t, head)
        made.fresh[1] = t < 20
        writer.append(made)
    return writer.close("operator", "failure")


def test_inspect_text(path, capsys):
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    for part in (
        "40 rows, 0.80 s at 50 Hz; ended: operator; label: failure",
        "hand over the cube, größer",
        "rig: test_rig (simulated)",
        "cam_high 48x64x3",
        "checkpoint: aloha-1 3f2a",
        "gate interventions: position 1, velocity 1",
    ):
        assert part in text
    lines = text.split("times as expected")[0].splitlines()
    table = {line.split()[0]: line.split() for line in lines if line.startswith("  cam_")}
    assert [table[camera][4] for camera in CAMERAS] == ["0.0", "50.0", "0.0", "0.0"]
    assert "quality: BAD\n    cam_low: stale rows: 50.0 % (bad above 2 %)\n" in text


def test_inspect_json_counts(path, capsys):
    assert main(["inspect", "--json", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    streams = report["quality"]["streams"]
    assert report["rows"] == 40 and streams["cam_low"]["stale"] == 20
    assert streams["cam_high"]["repeated"] == 6  # rows 0, 7, ... 35


def test_many_episodes_are_summed_up(tmp_path, capsys):
    def stale(rows):
        for one in rows:
            one.fresh[1] = False

    good, bad = write(tmp_path / "a", rows=30), write(tmp_path / "b", rows=30, change=stale)
    assert main(["inspect", str(good), str(bad)]) == 0
    together = capsys.readouterr().out.split("together: ")[1].splitlines()
    assert together == [
        "2 episodes, 60 rows, 0.0 min",
        "  quality: 1 good, 1 bad",
        f"    bad: {bad}",
        "  label: 2 success",
    ]


def test_names_that_would_clash_are_told_before_anything_is_made(tmp_path, capsys):
    paths = [str(write(tmp_path / day, rows=3)) for day in ("monday", "tuesday")]
    to = str(tmp_path / "to")
    for words in (["video", "--to", to], ["convert", "to-jpeg", "--to", to], ["inspect", "--pictures", to]):
        assert main([*words, *paths]) == 2
        assert f"{paths[0]} and {paths[1]} would both become {to}/episode_0" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_pictures_overwrite_nothing_and_json_stays_json(path, tmp_path, capsys):
    words = ["inspect", "--json", str(path), "--pictures", str(tmp_path / "look")]
    assert main(words) == 0
    json.loads(capsys.readouterr().out)
    picture = tmp_path / "look" / "episode_0_cameras.png"
    picture.write_text("somebody's")
    assert main(words) == 1
    assert f"{picture}: exists already; nothing is overwritten" in capsys.readouterr().err
    assert picture.read_text() == "somebody's"


def test_pictures(path, tmp_path, capsys):
    assert main(["inspect", str(path), "--pictures", str(tmp_path / "look")]) == 0
    for what in ("cameras", "joints", "quality"):
        picture = cv2.imread(str(tmp_path / "look" / f"episode_0_{what}.png"))
        assert picture.shape[0] > 500 and picture.std() > 10


def test_contact_sheet_shows_the_frames_of_its_moments(path):
    with EpisodeReader(path) as episode:
        cells = np.reshape(contact_sheet(episode, moments=5).axes, (4, 5))
        assert [cell.get_title() for cell in cells[0]][-1] == "0.78 s (row 39)"
        for column, t in enumerate((0, 10, 20, 29, 39)):
            shown = cells[1, column].images[0].get_array()
            np.testing.assert_array_equal(shown, episode.images("cam_low")[t])


def test_joint_plot_draws_every_joint_in_its_arms_column(path):
    with EpisodeReader(path) as episode:
        cells = np.reshape(joint_plot(episode).axes, (7, 2))
        for column, side in enumerate(("left", "right")):
            assert all(cell.get_title(loc="left").startswith(side) for cell in cells[:, column])
        action, qpos = cells[1, 1].get_lines()
        np.testing.assert_array_equal(qpos.get_ydata(), episode.qpos[:, 8])
        np.testing.assert_array_equal(action.get_ydata(), episode.action[:, 8])


def test_plain_act_file_can_be_looked_at(tmp_path, capsys):
    with h5py.File(tmp_path / "episode_3.hdf5", "w") as file:
        file.attrs["sim"] = True
        for name in ("action", "observations/qpos", "observations/qvel", "observations/effort"):
            file.create_dataset(name, data=np.ones((7, 14), "f4"))
        file.create_dataset("observations/images/top", data=np.zeros((7, 4, 6, 3), "u1"))
    assert main(["inspect", str(tmp_path / "episode_3.hdf5"), "--pictures", str(tmp_path)]) == 0
    assert "7 rows, rate not recorded" in capsys.readouterr().out


def test_mistakes_are_one_line(path, tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "none.hdf5")]) == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"episode: {tmp_path}/none.hdf5: no such file; give an episode, a folder of episodes, or a pattern\n"
    )


def test_quality_page_draws_what_was_counted(tmp_path):
    def change(rows):
        for stale in rows[10:14]:
            stale.fresh[1] = False
        rows[5].interventions = ["velocity: left_waist", "position: left_elbow"]
        rows[9].interventions = ["velocity: left_waist"]

    with EpisodeReader(write(tmp_path, rows=40, change=change)) as episode:
        quality = quality_of(episode)
        figure = quality_page(episode, quality)
        lines = np.reshape(figure.axes, (len(episode.stream_names) + 1, 2))
        for line, stream in zip(lines, quality.streams.values(), strict=False):
            assert [bar.get_height() for bar in line[0].patches] == stream["intervals"]
        for i, name in enumerate(episode.stream_names):
            np.testing.assert_array_equal(lines[i, 1].get_lines()[0].get_ydata(), 1000 * episode.ages_s[:, i])
            assert len(lines[i, 1].patches) == (name == "cam_low")
        stretch = lines[1, 1].patches[0]
        assert stretch.get_x() == pytest.approx(0.2) and stretch.get_width() == pytest.approx(0.08)
        position, velocity = lines[-1, 1].get_lines()
        assert velocity.get_xdata().tolist() == pytest.approx([0.1, 0.18])
        assert position.get_xdata().tolist() == pytest.approx([0.1])
        assert "BAD: cam_low: stale rows: 10.0 % (bad above 2 %)" in figure.get_suptitle()
