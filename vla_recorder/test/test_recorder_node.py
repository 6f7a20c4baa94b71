"""The recorder over real DDS: publishers in another process, episodes checked number by number."""

import os
import pty
import signal
import termios

import h5py
import numpy as np
import pytest
from recorder_checks import CAMERAS, check_rows, expected_leader
from recorder_harness import RIG, scene
from recorder_rig_publisher import JOINTS_BEFORE_NS, PERIOD_NS
from support.processes import DEADLINE_S

from vla_msgs.msg import EpisodeStatus
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_rig.rig_file import load_rig, rig_from_yaml


@pytest.fixture
def stage(tmp_path, domain_id):
    with scene(tmp_path, domain_id) as stage:
        yield stage


def test_rows_carry_what_was_published_at_their_time(stage):
    publisher = stage.publisher()
    stage.tell(publisher, cam_left_wrist="bgr8")
    recorder = stage.recorder()
    stage.until_heard()
    started = stage.start("hand over the cube, größer")
    assert started.success and started.path.endswith("episode_0.hdf5")
    stage.until_rows(60)
    assert stage.start().message.startswith("already recording")
    stopped = stage.stop(label=1, end_reason="task finished")
    assert stopped.success and stopped.path == started.path and stopped.rows >= 60
    assert problems(stopped.path) == []
    assert check_rows(stopped.path) > 30
    with h5py.File(stopped.path) as file:
        assert (
            isinstance(file.attrs["sim"], np.bool_) and not file.attrs["sim"] and "compress" not in file.attrs
        )
        T = stopped.rows
        for name in ("action", "observations/qpos", "observations/qvel", "observations/effort"):
            assert file[name].shape == (T, 14) and file[name].dtype == np.dtype("<f4")
        assert sorted(file["observations/images"]) == sorted(CAMERAS)
        for camera in CAMERAS:
            frames = file[f"observations/images/{camera}"]
            assert (
                frames.shape == (T, 480, 640, 3)
                and frames.chunks == (1, 480, 640, 3)
                and frames.dtype == np.uint8
            )
        assert file["language_raw"][0].decode() == "hand over the cube, größer"
        assert file["substep_reasonings"].shape == (T,)
    with EpisodeReader(stopped.path) as episode:
        assert (episode.label, episode.end_reason) == ("success", "task finished")
        assert rig_from_yaml(episode.rig_text) == load_rig(RIG)
        assert episode.state_names == load_rig(RIG).state_names
        assert episode.attributes["software"].startswith("vla_recorder 0.")
        assert episode.leader.shape == (T, 14)
        cam = episode.stream_names.index("cam_high")
        assert 0.3 < episode.repeated[1:, cam].mean() < 0.7  # 25 Hz frames on 50 Hz rows
    assert stage.start().episode_index == 1
    stage.until_rows(5)
    discarded = stage.stop(save=False)
    assert discarded.success and "/trash/" in discarded.path
    assert not list(stage.folder.glob("episode_1*"))
    recorder.send_signal(signal.SIGINT)
    output = recorder.communicate(timeout=DEADLINE_S)[0]
    assert recorder.returncode == 0 and "Traceback" not in output, output
    assert "gate interventions: velocity" in output and "cam_right_wrist" in output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_recording_is_saved(stage, how):
    stage.publisher("real")
    recorder = stage.recorder()
    stage.start()
    stage.until_rows(20)
    recorder.send_signal(how)
    output = recorder.communicate(timeout=DEADLINE_S)[0]
    assert recorder.returncode == 0 and "Traceback" not in output, output
    path = stage.folder / "episode_0.hdf5"
    # on a loaded machine a command may come too late and its row is marked; nothing else may be wrong
    assert [p for p in problems(path) if "not finite" not in p] == []
    with EpisodeReader(path) as episode:
        assert len(episode) >= 20 and episode.end_reason == "interrupted"


def test_streams_that_fail_are_marked_and_named(stage):
    """One after the other: a dead camera, a wrong size, an unknown encoding, a dead arm. Recording goes on."""
    publisher = stage.publisher()
    recorder = stage.recorder()
    path = stage.start().path
    stage.until_rows(10)
    for stream, mode, reason in (
        ("cam_low", "dead", "s old, limit 0.2 s"),
        ("cam_high", "small", "image is 320x240, the rig file says 640x480"),
        ("cam_left_wrist", "bayer_rggb8", "encoding 'bayer_rggb8'"),
        ("follower_left", "nan", "is nan"),
        ("command", "dead", "s old, limit 0.1 s"),
    ):
        stage.tell(publisher, **{stream: mode})

        def said(
            stream=stream, reason=reason
        ):  # a status may be made between a message and the row that uses it
            shown = stage.stream(stream)
            return reason in shown.reason and shown.stale > 0 and f"{stream}: " in stage.status.reason

        stage.spin(said, f"{stream}: {reason}")
        assert stage.status.state == EpisodeStatus.STATE_RECORDING
    stage.tell(publisher, cam_high="rgb8")
    stage.spin(lambda: not stage.stream("cam_high").reason)
    rows = stage.status.rows
    stage.until_rows(rows + 10)
    stopped = stage.stop()
    assert stopped.success and stopped.path == path
    assert check_rows(path) >= 5
    with EpisodeReader(path) as episode:
        column = {name: i for i, name in enumerate(episode.stream_names)}
        last = len(episode) - 1
        for stream in ("cam_low", "cam_left_wrist", "follower_left", "command"):
            assert not episode.fresh[last, column[stream]] and episode.fresh[0, column[stream]]
        assert episode.fresh[last, column["cam_high"]]
        for camera in CAMERAS:  # the last good frame, never zeros
            assert episode.images(camera)[last, 0, 0, 1] == 100 + CAMERAS.index(camera)
        assert np.isnan(episode.qpos[last, :7]).all() and np.isfinite(episode.qpos[last, 7:]).all()
        assert np.isnan(episode.action[last]).all() and np.isnan(episode.command[last]).all()
        assert episode.ages_s[last, column["cam_low"]] > 0.2
    recorder.send_signal(signal.SIGINT)
    output = recorder.communicate(timeout=DEADLINE_S)[0]
    assert "cam_high/camera/color/image_rect_raw): image is 320x240, the rig file says 640x480" in output
    assert "follower_left (follower_left/joint_states): " in output and "cam_high: healthy again" in output


def test_no_row_before_every_stream_is_there(stage):
    publisher = stage.publisher()
    stage.tell(publisher, cam_low="dead", command="dead")
    stage.recorder()
    stage.start()
    stage.spin(lambda: "cam_low: nothing received" in stage.status.reason)
    assert stage.status.reason.startswith("waiting for") and stage.status.rows == 0
    stage.tell(publisher, cam_low="rgb8")
    stage.spin(lambda: stage.status.reason == "waiting for command: nothing received")
    nothing = stage.stop()
    assert not nothing.success and nothing.rows == 0 and "waiting for command" in nothing.message
    assert not list(stage.folder.glob("episode_*"))
    assert stage.start().episode_index == 0
    stage.tell(publisher, command="alive")
    stage.until_rows(3)
    assert check_rows(stage.stop().path) > 0


def test_leader_as_action_and_max_rows(stage):
    publisher = stage.publisher()
    stage.tell(publisher, command="dead")
    stage.recorder("--action-from", "leader", "--sim", "--ros-args", "-p", "max_rows:=30", "--")
    path = stage.start().path
    stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_IDLE and stage.status.rows)
    assert stage.status.reason == "30 rows recorded (max_rows)"
    assert problems(path) == []
    rig = load_rig(RIG)
    with EpisodeReader(path) as episode:
        assert len(episode) == 30 and episode.sim and episode.attributes["action_from"] == "leader"
        assert np.isnan(episode.command[:]).all() and set(episode.command_sources) == {"none"}
        assert episode.leader is None
        stamps = dict(zip(episode.stream_names, map(int, episode.stream_stamps_ns[7]), strict=True))
        k_of_source = {name: (at_ns + JOINTS_BEFORE_NS) // PERIOD_NS for name, at_ns in stamps.items()}
        np.testing.assert_allclose(episode.action[7], expected_leader(rig, k_of_source), rtol=1e-5)


def test_start_says_what_is_wrong(stage):
    (stage.folder / "taken").write_text("a file, not a folder")
    stage.recorder()
    assert "no instruction" in stage.start("").message
    stage.set_parameter("folder", str(stage.folder / "taken"))
    answer = stage.start()
    assert not answer.success and f"{stage.folder}/taken: cannot write here" in answer.message
    stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_FAULT)
    assert "cannot write here" in stage.status.reason
    assert stage.stop().message == "not recording"
    stage.set_parameter("folder", str(stage.folder / "other"))
    assert stage.start().path == f"{stage.folder}/other/episode_0.hdf5"
    stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_RECORDING)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rig", "no_such_rig"], "no rig named 'no_such_rig'"),
        (
            ["--ros-args", "-p", "action_from:=nobody"],
            "action_from must be 'command' or 'leader', got 'nobody'",
        ),
        (["--folder", "/proc/episodes"], "/proc/episodes: cannot write here"),
        (["--images", "jpeg", "--jpeg-quality", "0"], "jpeg_quality"),
        (["--instruction", "caf\udce9"], "the arguments are not UTF-8"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(stage, options, message):
    process = stage.process("-m", "vla_recorder.record", *options, stdout=-1, stderr=-2)
    output = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 2 and message in output and "Traceback" not in output


def test_keys(stage):
    """Space starts, s saves as success, d discards, q quits; the terminal is as before afterwards."""
    stage.publisher()
    keys, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    recorder = stage.recorder("--instruction", "fold", terminal=terminal)
    for key, ended in (("s", "success"), ("d", "discarded")):
        stage.spin(lambda: termios.tcgetattr(terminal) != before)
        os.write(keys, b" ")
        stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_RECORDING and stage.status.rows >= 5)
        os.write(keys, b"x" + key.encode())  # x means nothing
        stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_IDLE)
        if ended == "success":
            with EpisodeReader(stage.status.path) as episode:
                assert episode.label == "success" and episode.instruction == "fold"
        else:
            assert "/trash/" in stage.status.path
    os.write(keys, b"dq")
    output = recorder.communicate(timeout=DEADLINE_S)[0]
    assert recorder.returncode == 0 and "Traceback" not in output, output
    assert "not recording" in output
    assert termios.tcgetattr(terminal) == before
    os.close(keys)
    os.close(terminal)
