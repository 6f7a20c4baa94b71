"""LeRobot v3.0: what `export` writes keeps the format's rules, file by file, and comes back whole."""

import json
import os
import resource
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from recorder_episodes import header, row
from tool_episodes import names, run_episode

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter
from vla_recorder.lerobot import layout
from vla_recorder.lerobot.export import export
from vla_recorder.lerobot.layout import LeRobotError
from vla_recorder.lerobot.load import DataSet, load
from vla_recorder.lerobot.statistics import ImageStatistics, of_vectors
from vla_recorder.lerobot.video import read_frames
from vla_recorder.quality import quality_of
from vla_recorder.tools.cli import main

LENGTHS = (7, 4, 9)
FPS = 50
CAMERA = "observation.images.cam_low"


def _record(folder, rows, start=0, **changes):
    head = header(height=48, width=64, **changes)
    writer = EpisodeWriter(folder, head)
    for t in range(rows):
        writer.append(row(start + t, head, image_value=20 * t))
    return writer.close("operator", "success")


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    tasks = ("hand over the cube", "insert the peg", "hand over the cube")
    return [
        _record(folder, T, start=100 * i, instruction=task)
        for i, (T, task) in enumerate(zip(LENGTHS, tasks, strict=True))
    ]


@pytest.fixture(scope="module")
def data_set(episodes, tmp_path_factory):
    target = tmp_path_factory.mktemp("lerobot") / "cube"
    counted = []
    export(episodes, target, progress=counted.append)
    assert sum(counted) == sum(LENGTHS)
    return target


def test_info_says_what_the_files_hold(data_set):
    info = json.loads((data_set / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == FPS and info["robot_type"] == "test_rig"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 20, 2)
    assert info["splits"] == {"train": "0:3"}
    state = info["features"]["observation.state"]
    assert state["dtype"] == "float32" and state["shape"] == [14] and state["names"][0] == "left_waist"
    video = info["features"][CAMERA]
    assert video["dtype"] == "video" and video["shape"] == [48, 64, 3]
    assert video["info"]["video.codec"] == "h264" and video["info"]["video.fps"] == FPS
    assert "observation.effort" not in info["features"], "it was not finite in the episodes"


def test_rows_are_on_the_grid_one_group_per_episode(data_set):
    path = data_set / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    assert pq.ParquetFile(path).num_row_groups == 3
    assert table.schema.field("observation.state").type.list_size == 14
    assert table["index"].to_pylist() == list(range(20))
    assert table["episode_index"].to_pylist() == [0] * 7 + [1] * 4 + [2] * 9
    assert table["task_index"].to_pylist() == [0] * 7 + [1] * 4 + [0] * 9
    frame_index = np.array(table["frame_index"])
    np.testing.assert_array_equal(np.array(table["timestamp"]), (frame_index / FPS).astype(np.float32))
    assert CAMERA not in table.column_names


def test_tasks_are_the_index_of_a_pandas_frame(data_set):
    schema = pq.read_schema(data_set / "meta/tasks.parquet")
    assert json.loads(schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    tasks = layout.read_texts(data_set / "meta/tasks.parquet", "task_index")
    assert tasks == {0: "hand over the cube", 1: "insert the peg"}


def test_every_timestamp_finds_its_own_frame(data_set):
    rows = pq.read_table(data_set / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    end = 0.0
    for entry, T in zip(rows, LENGTHS, strict=True):
        assert entry["length"] == T == entry["dataset_to_index"] - entry["dataset_from_index"]
        start = entry[f"videos/{CAMERA}/from_timestamp"]
        assert start == pytest.approx(end, abs=1e-9)
        end = entry[f"videos/{CAMERA}/to_timestamp"]
        assert end - start == pytest.approx(T / FPS, abs=1e-9)
        for t in range(T):
            path = data_set / f"videos/{CAMERA}/chunk-000/file-000.mp4"
            (frame,) = read_frames(path, start + t / FPS, 1, FPS)
            assert abs(int(frame[..., 0].mean()) - 20 * t) < 6, "the frame of another row"


def test_statistics_of_the_whole_and_of_each_episode(data_set, episodes):
    stats = json.loads((data_set / "meta/stats.json").read_text())
    states = []
    for path in episodes:
        with EpisodeReader(path) as episode:
            states.append(episode.qpos[:])
    everything = np.concatenate(states)
    np.testing.assert_allclose(stats["observation.state"]["mean"], everything.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["q99"], np.quantile(everything, 0.99, axis=0))
    rows = pq.read_table(data_set / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    np.testing.assert_allclose(rows[1]["stats/observation.state/max"], states[1].max(0))
    assert stats[CAMERA]["count"] == [20] and np.shape(stats[CAMERA]["mean"]) == (3, 1, 1)


def test_image_statistics_equal_those_of_the_pixels():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 40, 60, 3), np.uint8)
    counted = ImageStatistics()
    for frame in frames:
        counted.add(frame)
    result, direct = counted.result(), of_vectors(frames.reshape(-1, 3) / 255)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(np.ravel(result[name]), direct[name], atol=1e-12)
    np.testing.assert_allclose(np.ravel(result["q50"]), direct["q50"], atol=1 / 255)


def test_comes_back_with_every_number_and_text(data_set, episodes, tmp_path):
    back = list(load(data_set, tmp_path))
    assert [path.name for path in back] == ["episode_0.hdf5", "episode_1.hdf5", "episode_2.hdf5"]
    for before, after in zip(episodes, back, strict=True):
        with EpisodeReader(before) as a, EpisodeReader(after) as b:
            assert len(a) == len(b)
            for name in ("qpos", "qvel", "action", "command"):
                np.testing.assert_array_equal(getattr(a, name)[:], getattr(b, name)[:])
            for name in ("stamps_ns", "stream_stamps_ns", "ages_s", "fresh", "repeated"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            for name in (
                "instruction",
                "substeps",
                "interventions",
                "command_sources",
                "label",
                "end_reason",
            ):
                assert getattr(a, name) == getattr(b, name)
            assert (a.sim, a.rig_text, a.state_names) == (b.sim, b.rig_text, b.state_names)
            assert a.attributes["state_units"] == b.attributes["state_units"]
            for camera in a.camera_names:
                error = np.abs(a.images(camera)[:].astype(int) - b.images(camera)[:])
                assert error.max() < 8


def test_leaders_that_one_episode_has_and_another_has_not(episodes, tmp_path):
    """The recorder has them where they were heard; quality is that of the recording."""
    plain = header()
    streams = [*plain.stream_names[:-1], "leader_left", "leader_right", "command"]
    head = header(
        48, 64, stream_names=streams, stream_topics=[f"{name}/topic" for name in streams], leader=True
    )
    writer = EpisodeWriter(tmp_path / "with", head)
    for t in range(5):
        one = row(t, head)
        one.leader = np.full(14, t, np.float32)
        writer.append(one)
    with_leader = writer.close("operator", quality={"verdict": "good", "late_rows": 2})
    for order in ([episodes[1], with_leader], [with_leader, episodes[1]]):
        target = tmp_path / f"set_{order.index(with_leader)}"
        export(order, target)
        back = list(load(target, tmp_path / f"back_{order.index(with_leader)}"))
        for before, after in zip(order, back, strict=True):
            assert problems(after) == problems(before)
            with EpisodeReader(before) as a, EpisodeReader(after) as b:
                assert (a.stream_names, a.stream_topics) == (b.stream_names, b.stream_topics)
                for name in ("stream_stamps_ns", "ages_s", "fresh", "repeated"):
                    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
                assert (a.leader is None) == (b.leader is None) and a.quality == b.quality
                if a.leader is not None:
                    np.testing.assert_array_equal(a.leader[:], b.leader[:])


def test_a_foreign_data_set_is_read_for_what_it_knows(data_set, tmp_path):
    foreign = tmp_path / "foreign"
    shutil.copytree(data_set, foreign)
    (foreign / "meta/vla.json").unlink()
    path = foreign / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.select([n for n in table.column_names if not n.startswith("vla.")]), path)
    info = json.loads((foreign / "meta/info.json").read_text())
    info["features"] = {n: f for n, f in info["features"].items() if not n.startswith("vla.")}
    (foreign / "meta/info.json").write_text(json.dumps(info))
    (first, *_) = load(foreign, tmp_path / "episodes", sim=True)
    with EpisodeReader(first) as episode:
        assert episode.sim and episode.end_reason == "imported from LeRobot data set foreign"
        assert episode.attributes["state_units"] == ["unknown"] * 14
        assert np.isnan(episode.effort[:]).all(), "what the data set lacks must not be made up"
        assert quality_of(episode) is None, "nor a verdict on messages that nobody knows of"
        np.testing.assert_array_equal(np.diff(episode.stamps_ns), 20_000_000)


@pytest.mark.parametrize("damage", ["data", "video", "version", "info"])
def test_a_damaged_data_set_is_named(data_set, tmp_path, damage):
    broken = tmp_path / "broken"
    shutil.copytree(data_set, broken)
    if damage == "data":
        path = broken / "data/chunk-000/file-000.parquet"
        pq.write_table(pq.read_table(path).slice(1), path)
    elif damage == "video":
        path = broken / f"videos/{CAMERA}/chunk-000/file-000.mp4"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "version":
        path = broken / "meta/info.json"
        path.write_text(path.read_text().replace("v3.0", "v2.1"))
    else:
        path = broken
        (broken / "meta/info.json").unlink()
    with pytest.raises(LeRobotError, match=str(path if damage != "version" else "format v2.1")):
        list(load(broken, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.hdf5")), "no half episode under a final name"


FILES = (
    "meta/info.json",
    "meta/vla.json",
    "meta/tasks.parquet",
    "meta/episodes/chunk-000/file-000.parquet",
    "data/chunk-000/file-000.parquet",
    f"videos/{CAMERA}/chunk-000/file-000.mp4",
)


@pytest.mark.parametrize("name", FILES)
def test_any_file_that_is_cut_or_missing_is_named_in_one_line(data_set, tmp_path, name, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(data_set, broken)
    path, out = broken / name, tmp_path / "out"
    for damage in (lambda: os.truncate(path, path.stat().st_size // 3), path.unlink):
        damage()
        if name == "meta/vla.json" and not path.exists():
            continue  # a data set of others has none
        assert main(["convert", "from-lerobot", str(broken), "--to", str(out)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"episode: {path if path.exists() or name != FILES[3] else broken}: "), said
        assert not out.exists() or names(out) == []


@pytest.mark.parametrize("key", ["fps", "data_path", "video_path"])
def test_what_info_has_to_say(data_set, tmp_path, key):
    broken = tmp_path / "broken"
    shutil.copytree(data_set, broken)
    info = json.loads((broken / "meta/info.json").read_text())
    del info[key]
    (broken / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(LeRobotError, match=f"meta/info.json: has no {key}"):
        DataSet(broken)


def test_nothing_is_overwritten(data_set, episodes):
    before = (data_set / "meta/info.json").read_bytes()
    with pytest.raises(EpisodeError, match="exists already; nothing is overwritten"):
        export(episodes, data_set)
    assert (data_set / "meta/info.json").read_bytes() == before


def test_what_does_not_fit_is_refused_by_name(episodes, tmp_path):
    odd = _record(tmp_path / "odd", 2, control_rate_hz=30.0)
    with pytest.raises(LeRobotError, match=f"{odd}: rate_hz is 30"):
        export([episodes[0], odd], tmp_path / "out")
    head = header(height=48, width=64)
    writer = EpisodeWriter(tmp_path / "nan", head)
    first, second = row(0, head), row(1, head)
    second.qpos[3] = np.nan
    writer.append(first)
    writer.append(second)
    broken = writer.close("operator")
    with pytest.raises(LeRobotError, match="qpos of row 1 is not finite"):
        export([broken], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_that_is_interrupted_leaves_nothing(episodes, tmp_path):
    def interrupt(_rows):
        assert (tmp_path / ".out.unfinished").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(episodes, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 3000])  # no header can be written; the first data fail
def test_a_full_disk_is_said_and_leaves_nothing(episodes, tmp_path, limit):
    """FFmpeg crashes a process that goes on with a file that failed."""

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    target = tmp_path / "out"
    done = run_episode("convert", "to-lerobot", episodes[0], "--to", target, check=2, preexec_fn=full)
    assert "out" in done.stderr and "cannot be written: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_more_episodes_than_a_process_may_have_open(tmp_path):
    day, target = tmp_path / "day", tmp_path / "out"
    first = _record(day, 2)
    for i in range(1, 60):
        os.link(first, day / f"episode_{i}.hdf5")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    run_episode("convert", "to-lerobot", day, "--to", target, check=0, preexec_fn=few)
    assert json.loads((target / "meta/info.json").read_text())["total_episodes"] == 60


def test_the_lerobot_package_loads_it(data_set, monkeypatch):
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = lerobot.LeRobotDataset("test/cube", root=data_set)
    assert len(loaded) == sum(LENGTHS) and len(DataSet(data_set)) == loaded.num_episodes
    item = loaded[8]  # row 1 of episode 1
    assert item["task"] == "insert the peg" and int(item["frame_index"]) == 1
    assert abs(float(item[CAMERA][0].mean()) * 255 - 20) < 6
