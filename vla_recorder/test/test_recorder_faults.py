"""What goes wrong on a lab's day, done to a recorder over real DDS: each says its name, and costs nothing recorded."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import ReliabilityPolicy
from recorder_checks import CAMERAS, check_rows
from recorder_harness import RIG, scene
from recorder_rig_publisher import PERIOD_NS
from support.processes import DEADLINE_S

from vla_msgs.msg import EpisodeStatus
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import recover
from vla_recorder.episode.validate import problems

ALL_BUT = [
    "cam_high",
    "cam_left_wrist",
    "cam_right_wrist",
    "follower_right",
    "leader_left",
    "leader_right",
    "command",
]


@pytest.fixture
def stage(tmp_path, domain_id):
    with scene(tmp_path, domain_id) as stage:
        yield stage


@contextlib.contextmanager
def tmpfs(folder: Path, options: str):
    """A file system of the test's own on `folder`."""
    if os.geteuid():
        pytest.skip("mounting a tmpfs needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def end(recorder) -> str:
    """All it said."""
    recorder.send_signal(signal.SIGINT)
    output = recorder.communicate(timeout=DEADLINE_S)[0]
    assert recorder.returncode == 0 and "Traceback" not in output, output
    return output


def until_new_rows(stage, number=10):
    before = stage.status.rows
    stage.spin(lambda: stage.status.rows >= before + number)


def test_a_camera_and_an_arm_whose_drivers_die_and_come_back(stage):
    stage.publisher(only=",".join(ALL_BUT))
    dying = stage.publisher("follow", only="cam_low,follower_left", name="driver")
    recorder = stage.recorder()
    path = stage.start().path
    stage.until_rows(20)
    stage.tell(dying, die=True)
    assert dying.wait(DEADLINE_S) == -signal.SIGKILL
    for stream, text in (("cam_low", "s old, limit 0.2 s"), ("follower_left", "s old, limit 0.1 s")):
        stage.spin(lambda stream=stream, text=text: text in stage.stream(stream).reason)
    until_new_rows(stage)
    stage.publisher("follow", only="cam_low,follower_left", name="driver")
    stage.spin(lambda: not stage.status.reason)
    until_new_rows(stage)
    assert stage.stop().success
    assert check_rows(path) >= 20
    with EpisodeReader(path) as episode:
        camera, arm = (episode.stream_names.index(name) for name in ("cam_low", "follower_left"))
        for column in (camera, arm):
            fresh = episode.fresh[:, column]
            gone = np.flatnonzero(~fresh)
            # gone as long as the test waited, and back; a driver that stumbles as it starts is marked once more
            assert fresh[0] and len(gone) >= 10 and fresh[gone[0] :].sum() >= 10
        gone_arm = ~episode.fresh[:, arm]
        assert np.isnan(episode.qpos[:][gone_arm][:, :7]).all() and np.isfinite(episode.qpos[:, 7:]).all()
        assert episode.quality["verdict"] == "bad"
        assert any(reason.startswith("follower_left: stale rows") for reason in episode.quality["reasons"])
    output = end(recorder)
    for line in (
        "cam_low (cam_low/camera/color/image_rect_raw): 0.",
        "follower_left (follower_left/joint_states): 0.",
        "cam_low: healthy again",
        "follower_left: healthy again",
    ):
        assert line in output, output


def test_a_stream_that_nobody_publishes_is_said_to_be_so(stage):
    stage.publisher(only=",".join(ALL_BUT))
    stage.recorder()
    stage.start()
    stage.spin(lambda: stage.stream("cam_low").reason == "nothing received: nobody publishes it")
    # on a loaded machine the other streams begin late, too
    stage.spin(lambda: stage.status.reason.startswith("waiting for cam_low: nothing received"))
    assert stage.status.rows == 0


def test_a_clock_that_is_set_back_or_leaps_ahead_ends_the_episode_and_no_more(stage):
    publisher = stage.publisher()
    recorder = stage.recorder()
    paths = []
    for leap, reason in ((-2000, "the clock was set back"), (200_000, "the clock leapt ahead by ")):
        stage.until_heard()
        started = stage.start()
        assert started.success, started.message
        paths.append(started.path)
        stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_RECORDING and stage.status.rows >= 20)
        stage.tell(publisher, leap=leap)
        stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_IDLE)
        assert stage.status.reason.startswith(reason)
    paths.append(stage.start().path)  # and on it goes
    stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_RECORDING and stage.status.rows >= 20)
    stage.stop()
    for path in paths:
        assert problems(path) == []
        assert check_rows(path) >= 10
        with EpisodeReader(path) as episode:
            assert len(episode) >= 20
    assert len(set(paths)) == 3
    end(recorder)


def test_reliable_and_best_effort_publishers_are_heard_alike(stage):
    """Each topic is asked for as it is offered; who offers less is named."""
    stage.publisher(reliable="cam_high,follower_left", name="driver")
    recorder = stage.recorder()
    path = stage.start().path
    stage.until_rows(20)

    def asked_reliably():
        return {
            stream.name
            for stream in stage.status.streams
            for info in stage.node.get_subscriptions_info_by_topic(f"/{stream.topic}")
            if info.node_name == "recorder" and info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        }

    stage.spin(
        lambda: asked_reliably() == {"cam_high", "follower_left"}, "what is offered reliably, asked so"
    )
    assert stage.stop().success and check_rows(path) >= 10
    output = end(recorder)
    assert "command: /driver offers best effort" in output
    assert "cam_low/camera/color/image_rect_raw: /driver offers best effort" in output
    assert "cam_high/camera/color/image_rect_raw: " not in output


def test_a_second_recorder_refuses_and_names_the_first(stage):
    stage.publisher()
    first = stage.recorder()
    stage.start()
    stage.until_rows(10)
    command = ["-m", "vla_recorder.record", "--rig", RIG, "--folder", stage.folder]
    second = stage.process(*command, stdout=-1, stderr=-2)
    output = second.communicate(timeout=DEADLINE_S)[0]
    assert second.returncode == 2 and "Traceback" not in output
    assert f"{stage.folder}: '/recorder' (pid {first.pid} on {socket.gethostname()}, since " in output
    # in another folder it records, but a service call may reach either
    third = stage.process(*command[:-1], stage.folder / "other", stdout=-1, stderr=-2)
    assert any("another node is named /recorder" in line for line in third.stdout)
    assert any("another node is named /recorder" in line for line in first.stdout)
    until_new_rows(stage)
    end(first)
    end(third)
    assert check_rows(stage.folder / "episode_0.hdf5") > 0


def test_a_killed_recorder_loses_less_than_a_second(stage):
    stage.publisher()
    recorder = stage.recorder()
    path = Path(stage.start().path)
    # what this machine's disk has not taken yet is another matter
    stage.spin(lambda: stage.status.rows >= 100 and stage.status.queue_fill == 0)
    rows = stage.status.rows
    # not while it hands over this very status: its lock in shared memory would stay, and we hear nothing any more
    stage.spin_for(0.1)
    recorder.kill()
    recorder.communicate()
    assert not path.exists() and path.with_name(path.name + ".partial").exists()
    next_one = stage.recorder(name="after_the_crash")  # the lock died with its holder; the number is taken
    assert stage.start().episode_index == 1
    recovered = recover(path.with_name(path.name + ".partial"))
    assert recovered.path == path and recovered.rows > rows - 50  # 50 Hz
    assert problems(path) == [] and check_rows(path) >= 10
    stage.spin(lambda: stage.status.rows >= 5)
    assert problems(stage.stop().path) == []
    assert f"{stage.folder} has 1 unfinished episode; " in end(next_one)


def test_a_removed_folder_costs_nothing(stage):
    stage.publisher()
    folder = stage.folder / "episodes"
    recorder = stage.recorder("--folder", folder)
    path = stage.start().path
    stage.until_rows(20)
    shutil.rmtree(folder)
    stage.spin(lambda: stage.status.state != EpisodeStatus.STATE_RECORDING)
    stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_IDLE)
    assert f"{path}.partial: was removed while it was written" in stage.status.reason
    assert problems(path) == [] and check_rows(path) >= 10
    again = stage.start()
    assert again.episode_index == 1
    stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_RECORDING and stage.status.rows >= 5)
    assert stage.stop().success
    assert "was removed while it was written" in end(recorder)


def test_a_disk_that_fills_up_ends_the_episode_in_time(stage):
    folder = stage.folder / "disk"
    folder.mkdir()
    with tmpfs(
        folder, "size=600m"
    ):  # after 100 rows less than the reserve is free, with room for a queue of 70
        stage.publisher()
        recorder = stage.recorder("--folder", folder)
        first = stage.start()
        stage.spin(lambda: stage.status.rows and stage.status.state == EpisodeStatus.STATE_IDLE)
        assert stage.status.reason == "the disk is nearly full" and stage.status.disk_left_min < 0.1
        assert problems(first.path) == [] and check_rows(first.path) >= 10
        again = stage.start()
        assert not again.success and "MB left on the disk" in again.message
        stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_FAULT)
        end(recorder)
        assert [path.name for path in folder.glob("*.hdf5*")] == ["episode_0.hdf5"]


def test_a_disk_that_is_suddenly_full_keeps_every_row_before(stage):
    """Another process takes all the room at once: the write itself fails."""
    folder = stage.folder / "disk"
    folder.mkdir()
    with tmpfs(folder, "size=900m"):
        stage.publisher()
        recorder = stage.recorder("--folder", folder)
        path = stage.start().path
        stage.until_rows(20)
        fill = "import sys, itertools\nfile = open(sys.argv[1], 'wb')\nwhile True: file.write(bytes(1 << 20))"
        filled = subprocess.run(
            [sys.executable, "-c", fill, folder / "filler"], capture_output=True, text=True
        )
        assert "No space left" in filled.stderr
        stage.spin(lambda: stage.status.state == EpisodeStatus.STATE_IDLE)
        assert "No space left on device" in stage.status.reason or "nearly full" in stage.status.reason
        assert stage.status.path == path and problems(path) == [] and check_rows(path) >= 10
        end(recorder)


def test_a_read_only_folder_is_refused_at_once(stage):
    folder = stage.folder / "disk"
    folder.mkdir()
    with tmpfs(folder, "ro,size=1m"):
        process = stage.process(
            "-m", "vla_recorder.record", "--rig", RIG, "--folder", folder, stdout=-1, stderr=-2
        )
        output = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 2 and "Traceback" not in output
    assert f"{folder}: cannot write here: [Errno 30] Read-only file system" in output


def test_frames_of_another_size_are_named_and_left_out(stage):
    publisher = stage.publisher()
    recorder = stage.recorder("--images", "jpeg")
    stage.until_heard()
    path = stage.start().path
    stage.until_rows(10)
    stage.tell(publisher, cam_high="small")
    stage.spin(lambda: "image is 320x240, the rig file says 640x480" in stage.stream("cam_high").reason)
    until_new_rows(stage)
    stage.tell(publisher, cam_high="rgb8", leader_left="nan")
    stage.spin(lambda: not stage.stream("cam_high").reason)
    until_new_rows(stage)
    assert stage.stop().success
    (found,) = problems(path)
    assert found.startswith("/vla/leader is not finite in ")  # beside the action, and marked
    with EpisodeReader(path) as episode:
        column = episode.stream_names.index("cam_high")
        gone = np.flatnonzero(~episode.fresh[:, column])
        assert len(gone) >= 10 and episode.fresh[0, column] and episode.fresh[-1, column]
        assert (episode.stream_stamps_ns[:, column][gone] == episode.stream_stamps_ns[gone[0], column]).all()
        assert all(episode.images(camera).shape[1:] == (480, 640, 3) for camera in CAMERAS)
        assert (np.diff(episode.stamps_ns) == PERIOD_NS).all()
    assert "cam_high (cam_high/camera/color/image_rect_raw): image is 320x240" in end(recorder)
