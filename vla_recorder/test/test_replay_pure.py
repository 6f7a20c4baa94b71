"""What a replay publishes and when, without ROS's graph: messages out of rows, commands over time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.time import Time
from tool_episodes import CONFIG, SIM, plain_act, small_rig, write

from vla_recorder.episode.layout import NO_STAMP, EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.replay.messages import events, stream_messages
from vla_recorder.tools.replay.node import rig_of
from vla_recorder.tools.replay.trajectory import APPROACH_MIN_S, APPROACH_SHARE, Trajectory, commands_of
from vla_rig.images import camera_image
from vla_rig.joints import effort_reader, feedback_reader, state_reader, velocity_reader
from vla_rig.rig_file import load_rig

STAMP = Time(seconds=7, nanoseconds=5)
SPEED = np.array([channel.max_velocity for channel in SIM.action])


def with_cameras(**changes):
    rig = small_rig()
    cameras = {name: camera.model_copy(update=changes) for name, camera in rig.cameras.items()}
    return rig.model_copy(update={"cameras": cameras})


def test_joint_states_read_back_as_the_rows_they_came_from(tmp_path):
    """By the very readers of the policy node and the gate, from the rig's raw units."""
    with EpisodeReader(write(tmp_path)) as episode:
        rig = rig_of(episode, None)
        streams = {name: messages for name, _, messages in stream_messages(episode, rig)}
        for t in (0, 7, 29):
            messages = {name: streams[name].message(t, STAMP) for name in rig.follower_sources}
            assert all(Time.from_msg(m.header.stamp).nanoseconds == 7_000_000_005 for m in messages.values())
            np.testing.assert_allclose(state_reader(rig).read(messages), episode.qpos[t], atol=1e-6)
            np.testing.assert_allclose(velocity_reader(rig).read(messages), episode.qvel[t], rtol=1e-5)
            np.testing.assert_allclose(effort_reader(rig).read(messages), episode.effort[t], rtol=1e-6)
            np.testing.assert_allclose(feedback_reader(rig).read(messages), episode.qpos[t], atol=1e-6)


def test_what_is_missing_in_the_row_is_missing_in_the_message(tmp_path):
    def change(rows):
        rows[4].qpos[:7] = rows[4].qvel[:7] = rows[4].effort[:7] = np.nan  # the left arm was stale
        for row in rows:
            row.effort[7:] = np.nan  # the right arm's driver has no effort

    with EpisodeReader(write(tmp_path, rows=6, change=change)) as episode:
        streams = {name: messages for name, _, messages in stream_messages(episode, rig_of(episode, None))}
        assert streams["follower_left"].message(4, STAMP) is None
        right = streams["follower_right"].message(4, STAMP)
        assert list(right.effort) == [] and len(right.position) == len(right.velocity) == len(right.name) == 8
        assert len(streams["follower_left"].message(3, STAMP).effort) == 8


@pytest.mark.parametrize("form", ["raw", "jpeg"])
@pytest.mark.parametrize("change", [{}, {"encoding": "bgr8"}, {"message": "compressed"}])
def test_frames_in_the_form_that_the_rig_file_says(tmp_path, form, change):
    rig = with_cameras(**change)
    with EpisodeReader(write(tmp_path, rows=3, form=form)) as episode:
        for name, topic, messages in stream_messages(episode, rig):
            if name not in rig.cameras:
                continue
            message = messages.message(2, STAMP)
            shown = camera_image(rig.cameras[name], message)
            assert topic == rig.cameras[name].topic and message.header.stamp == STAMP.to_msg()
            error = np.abs(shown.astype(int) - episode.images(name)[2])
            assert error.max() <= (30 if "message" in change else 0) and error.mean() < 2
            assert "message" in change or message.encoding == change.get("encoding", "rgb8")


def test_events_are_the_messages_the_rows_used_once_each_by_stamp(tmp_path):
    def change(rows):
        rows[3].stream_stamps_ns[4] = rows[2].stream_stamps_ns[4]  # follower_left: repeated
        rows[0].stream_stamps_ns[5] = NO_STAMP  # follower_right: not there yet
        rows[5].stream_stamps_ns[5] -= 7_000_000

    with EpisodeReader(write(tmp_path, rows=8, change=change)) as episode:
        found = events(episode, ["cam_low", "follower_left", "follower_right"], 0.02)
    assert found == sorted(found)
    assert [e.row for e in found if e.stream == "cam_low"] == [0, 2, 4, 6]
    assert [e.row for e in found if e.stream == "follower_left"] == [0, 1, 2, 4, 5, 6, 7]
    right = [e for e in found if e.stream == "follower_right"]
    assert [e.row for e in right] == [1, 2, 3, 4, 5, 6, 7] and right[4].stamp_ns == 1_093_000_000


def test_a_plain_act_file_needs_a_rig_and_has_one_of_each_per_row(tmp_path):
    with EpisodeReader(
        plain_act(tmp_path / "episode_0.hdf5", rows=3, cameras=("cam_high", "cam_low"))
    ) as episode:
        with pytest.raises(EpisodeError, match="carries no rig file; name one with --rig"):
            rig_of(episode, None)
        streams = {name: messages for name, _, messages in stream_messages(episode, small_rig())}
        assert list(streams) == ["cam_high", "cam_low", "follower_left", "follower_right"]
        found = events(episode, list(streams), 0.02)
        assert [e.stamp_ns for e in found[::4]] == [0, 20_000_000, 40_000_000] and len(found) == 12
        np.testing.assert_array_equal(commands_of(episode), episode.action[:])


def test_another_rig_is_refused(tmp_path):
    with EpisodeReader(write(tmp_path, rows=3)) as episode:
        with pytest.raises(
            EpisodeError, match=r"its state is left_waist.*that of rig 'teleavatar' is left_joint1"
        ):
            list(stream_messages(episode, load_rig(CONFIG / "teleavatar.yaml")))
        with pytest.raises(EpisodeError, match="cam_high is 64x48, the rig file says 640x480"):
            list(stream_messages(episode, SIM))
        with pytest.raises(EpisodeError, match="no rig named 'nobody'"):
            rig_of(episode, "nobody")


def test_rows_without_a_command_repeat_the_one_before(tmp_path):
    def change(rows):
        for t in (0, 1, 5, 6):
            rows[t].command = np.full(14, np.nan, np.float32)

    with EpisodeReader(write(tmp_path, rows=8, change=change)) as episode:
        expected = episode.command[:][[2, 3, 4, 4, 4, 7]]
        np.testing.assert_array_equal(commands_of(episode), expected)

    def never(rows):
        for row in rows:
            row.command = np.full(14, np.nan, np.float32)

    with EpisodeReader(write(tmp_path, rows=3, change=never)) as episode:
        with pytest.raises(EpisodeError, match="no row with a command"):
            commands_of(episode)


def test_the_way_to_the_first_command_is_slow_and_then_every_row_has_its_time():
    commands = np.cumsum(np.full((50, 14), 0.01), axis=0)
    start = commands[0] + np.linspace(-1, 1, 14)
    way = Trajectory(SIM, commands, 0.02, start)
    assert way.approach_s == pytest.approx(
        max(APPROACH_MIN_S, (1 / (APPROACH_SHARE * SPEED)).max()), rel=0.05
    )
    np.testing.assert_allclose(way.at(0.0), start)
    np.testing.assert_allclose(way.at(way.approach_s / 2), (start + commands[0]) / 2)
    for t in range(50):
        np.testing.assert_allclose(way.at(way.approach_s + t * 0.02), commands[t], atol=1e-9)
    np.testing.assert_allclose(way.at(way.approach_s + 0.03), commands[1] + 0.005)
    np.testing.assert_allclose(way.at(way.duration_s + 9), commands[-1])
    assert [way.row(way.approach_s + t * 0.02) for t in (0, 1, 49, 80)] == [0, 1, 49, 49] and way.row(0) == 0


def test_a_joint_that_nobody_measures_starts_at_its_first_command_and_steps_stay_steps():
    channels = [c.model_copy(update={"average": False}) if i == 6 else c for i, c in enumerate(SIM.action)]
    rig = SIM.model_copy(update={"action": channels})
    commands, start = np.zeros((3, 14)), np.zeros(14)
    commands[1:, 6], start[2] = 1.0, np.nan
    way = Trajectory(rig, commands, 0.02, start)
    assert way.at(0.0)[2] == 0.0 and way.approach_s == APPROACH_MIN_S
    assert way.at(way.approach_s + 0.019)[6] == 0.0 and way.at(way.approach_s + 0.02)[6] == 1.0


@given(seed=st.integers(0, 2**32 - 1), speed=st.floats(0.05, 5.0))
def test_a_trajectory_never_leaps(seed, speed):
    """Between any two times no further than the rows, or the approach, go in that time."""
    random = np.random.default_rng(seed)
    commands = np.cumsum(random.normal(0, 0.01, (20, 14)), axis=0)
    way = Trajectory(SIM, commands, 0.02 / speed, commands[0] + random.normal(0, 0.5, 14))
    times_s = np.sort(random.uniform(0, way.duration_s + 0.1, 60))
    fastest = np.maximum(
        APPROACH_SHARE * SPEED, np.abs(np.diff(commands, axis=0)).max(axis=0) / (0.02 / speed)
    )
    steps = np.abs(np.diff([way.at(t) for t in times_s], axis=0))
    assert (steps <= fastest * np.diff(times_s)[:, None] + 1e-9).all()
