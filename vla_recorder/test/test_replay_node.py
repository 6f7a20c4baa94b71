"""`episode replay` as people run it: its own process, real DDS, arms that follow or MuJoCo's."""

import threading

import h5py
import numpy as np
import pytest
import yaml
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState
from support.arms import Arms
from support.processes import node_command, python_module, wait_until
from tool_episodes import CONFIG, SIM, small_rig, write

from vla_msgs.msg import RigCommand
from vla_recorder.episode.reader import EpisodeReader
from vla_rig import qos
from vla_rig.images import camera_image
from vla_rig.inputs import stamp_ns
from vla_rig.joints import state_reader
from vla_rig.rig_file import load_rig
from vla_rig.sinks import message_class

REST = np.array([SIM.rest_pose[name] for name in SIM.action_names], np.float32)
ROLL = 3  # the left forearm's joint in the state and action vectors
SPEED = np.array([channel.max_velocity for channel in SIM.action])


def replay(spawn, *arguments, **environment):
    return spawn(python_module("vla_recorder.tools.cli", "replay", *map(str, arguments)), **environment)


def follow(commands):
    """A change of rows for `write`: these commands (T, A)."""

    def change(rows):
        for row, command in zip(rows, commands, strict=True):
            row.command = command.astype(np.float32)

    return change


def swing(rows, size=0.2, period=20.0):
    """Around the rest pose; only the arms' joints move."""
    moving = np.array([channel.range is None for channel in SIM.action])
    return REST + size * moving * np.sin(np.arange(rows)[:, None] / period + np.arange(14))


@pytest.fixture
def arms(graph):
    arms = Arms(graph, SIM)
    yield arms
    arms.close()


def test_observations_arrive_as_recorded(tmp_path, graph, spawn):
    """Every message the rows used, once, its content, at its distance from the others; what was stale is missing."""

    def change(rows):
        rows[20].qpos[:7] = rows[20].qvel[:7] = rows[20].effort[:7] = np.nan
        rows[30].stream_stamps_ns[4] -= 6_000_000  # follower_left: out of step

    path, rig = write(tmp_path, rows=50, change=change), small_rig()
    kinds = {n: (Image, c.topic) for n, c in rig.cameras.items()}
    kinds |= {n: (JointState, rig.joint_sources[n].topic) for n in rig.follower_sources}
    arrived, lock = [], threading.Lock()

    def note(name):
        def store(message, info):
            with lock:
                arrived.append((info["source_timestamp"], name, message))

        return store

    for name, (kind, topic) in kinds.items():
        graph.node.create_subscription(kind, topic, note(name), qos.reliable(100))
    process = replay(spawn, "observations", path, "--speed", 0.5)
    assert process.wait() == 0, process.text
    assert f"replayed {4 * 25 + 49 + 50} messages in " in process.text
    wait_until(lambda: len(arrived) == 199, "every message")
    # as they were sent: what is here at once is taken in topic by topic
    arrived = [(name, message) for _, name, message in sorted(arrived, key=lambda sent: sent[0])]
    with EpisodeReader(path) as episode:
        begin_ns = min(stamp_ns(message.header.stamp) for _, message in arrived)
        first_ns = int(episode.stream_stamps_ns.min())
        seen = {name: [] for name in kinds}
        for name, message in arrived:
            at_ns = first_ns + (stamp_ns(message.header.stamp) - begin_ns) // 2  # half the speed
            column = episode.stream_names.index(name)
            row = int(np.abs(episode.stream_stamps_ns[:, column] - at_ns).argmin())
            assert abs(int(episode.stream_stamps_ns[row, column]) - at_ns) <= 1
            seen[name].append(row)
            if name in rig.cameras:
                shown = camera_image(rig.cameras[name], message)
                np.testing.assert_array_equal(shown, episode.images(name)[row])
        assert all(seen[name] == list(range(0, 50, 2)) for name in rig.cameras)
        assert seen["follower_left"] == [t for t in range(50) if t != 20] and seen["follower_right"] == list(
            range(50)
        )
        left = [message for name, message in arrived if name == "follower_left"]
        right = [message for name, message in arrived if name == "follower_right"]
        reader = state_reader(rig)
        for t in (0, 19, 49):
            read = reader.read({"follower_left": left[t - (t > 20)], "follower_right": right[t]})
            np.testing.assert_allclose(read, episode.qpos[t], atol=1e-6)
    stamps_ns = [stamp_ns(message.header.stamp) for _, message in arrived]
    behind_ns = np.maximum.accumulate(stamps_ns) - stamps_ns
    assert behind_ns.max() < 40_000_000, "one stream's messages do not wait for the others' end"


def test_observations_refuse_where_a_robot_publishes(tmp_path, arms, graph, spawn):
    path = write(tmp_path, rows=5)
    graph.listen(JointState, SIM.joint_sources["follower_left"].topic, qos.SENSOR)
    process = replay(spawn, "observations", path)
    assert process.wait() == 1
    assert "somebody else publishes /follower_left/joint_states, /follower_right/joint_states" in process.text


def test_observations_wait_for_listeners_and_can_be_stopped(tmp_path, spawn):
    process = replay(spawn, "observations", write(tmp_path, rows=5))
    process.wait_for("waiting until somebody listens to /cam_high/camera/color/image_rect_raw, ")
    assert process.interrupt() == 130 and "Traceback" not in process.text


def test_commands_go_through_the_gate_one_for_each_row(tmp_path, arms, graph, spawn):
    records = graph.listen(RigCommand, "command", 500)
    expected = swing(60)
    expected[:, ROLL] = 0.005 * np.arange(60)
    path = write(tmp_path, rows=60, change=follow(expected))
    process = replay(spawn, "commands", path)
    assert process.wait() == 0, process.text
    assert "THE ROBOT MOVES" in process.text and "replayed 60 rows" in process.text
    assert {record.source for record in records} == {RigCommand.SOURCE_REPLAY}
    requested = np.array([record.requested for record in records])
    sent = np.array([record.sent for record in records])
    stamps_s = np.array([stamp_ns(record.header.stamp) for record in records]) * 1e-9
    dt_s = np.diff(stamps_s)[:, None]
    assert (np.abs(np.diff(sent, axis=0)) <= SPEED * np.maximum(dt_s, 0.02) + 1e-4).all()
    arm_joints = [i for i, channel in enumerate(SIM.action) if channel.range is None]
    assert np.abs(sent[0, arm_joints]).max() < 0.1, "it begins where the arms are: at 0 rad"
    at = np.flatnonzero(requested[:, ROLL] > 1e-6)[0]  # the first command after row 0's
    assert stamps_s[at] - stamps_s[0] > 1.1 / (0.2 * np.pi), "slowly, to an elbow at 1.16 rad"
    row = requested[at:, ROLL] / 0.005
    played = np.abs(requested[at:] - expected[np.round(row).astype(int)])[:, arm_joints]
    assert played.max() < 0.006, "all joints are where that row has them"
    last = np.flatnonzero(row > 58.999)[0]
    steps, moved = np.diff(stamps_s[at:])[: last - 1] / 0.02, np.diff(row)[: last - 1]
    in_time = (
        steps < 5
    )  # else this machine was late: it goes on by 5 at most, or not at all without fresh joint states
    np.testing.assert_allclose(
        moved[in_time], steps[in_time], atol=2e-3, err_msg="a tick each, or as many as late"
    )
    assert (moved >= 0).all() and moved.max() < 5.01
    np.testing.assert_allclose(sent[-1], expected[-1], atol=1e-3)
    waist = arms.follower["follower_left"]["waist"]
    assert waist == pytest.approx(expected[-1, 0], abs=1e-3), "and there they hold"


def test_commands_are_limited_whatever_the_file_says(tmp_path, arms, graph, spawn):
    records = graph.listen(RigCommand, "command", 500)
    wild = swing(40)
    wild[20:, 0] = 9.0  # a leap, beyond the limit of 3.14 rad
    process = replay(spawn, "commands", write(tmp_path, rows=40, change=follow(wild)), "--speed", 5)
    assert process.wait() == 0, process.text
    kinds = {entry.split(":")[0] for record in records for entry in record.interventions}
    assert {"position", "velocity"} <= kinds and "the gate changed: " in process.text
    waist = np.array([record.sent[0] for record in records])
    dt_s = np.diff([stamp_ns(record.header.stamp) * 1e-9 for record in records])
    assert waist.max() <= SIM.action[0].max + 1e-6
    assert (np.abs(np.diff(waist)) <= SPEED[0] * np.minimum(np.maximum(dt_s, 0.02), 0.04) + 1e-4).all()


def test_commands_refuse_beside_another_commander(tmp_path, graph, spawn, request):
    records = graph.listen(RigCommand, "command", 500)
    sink = SIM.sinks["left_arm"]
    graph.publisher(message_class(sink.message), sink.topic)
    arms = request.getfixturevalue("arms")  # after it: who hears the arms has found the commander
    process = replay(spawn, "commands", write(tmp_path, rows=10, change=follow(swing(10))))
    assert process.wait() == 1
    assert f"another node commands this rig already: /{sink.topic} (by /test_graph)" in process.text
    assert not records and not arms.commands


def test_ctrl_c_stops_and_the_arms_hold(tmp_path, arms, graph, spawn):
    records = graph.listen(RigCommand, "command", 500)
    process = replay(spawn, "commands", write(tmp_path, rows=900, change=follow(swing(900))))
    process.wait_for("THE ROBOT MOVES")
    first_row = swing(1)[0].astype(np.float32)
    wait_until(
        lambda: any(np.allclose(r.requested, first_row, atol=0.02) for r in list(records)), "rows are played"
    )
    assert process.interrupt() == 130
    assert "followers hold" in process.text and "Traceback" not in process.text
    ticks = arms.ticks
    wait_until(lambda: arms.ticks > ticks + 10, "what was under way has arrived")
    count, pose = len(arms.commands), arms.follower["follower_left"]["waist"]
    assert pose == pytest.approx(records[-1].sent[0], abs=1e-5)
    wait_until(lambda: arms.ticks > ticks + 30, "time for another command")
    assert len(arms.commands) == count


def test_commands_stand_still_without_joint_states_then_give_up(tmp_path, arms, graph, spawn):
    records = graph.listen(RigCommand, "command", 500)
    process = replay(spawn, "commands", write(tmp_path, rows=900, change=follow(swing(900))))
    process.wait_for("THE ROBOT MOVES")
    wait_until(lambda: len(records) > 20, "commands")
    arms.silent.add("follower_right")
    process.wait_for("standing still: follower_right: ")
    ticks = arms.ticks
    wait_until(lambda: arms.ticks > ticks + 10, "what was under way has arrived")
    count, ticks = len(records), arms.ticks
    wait_until(lambda: arms.ticks > ticks + 20, "time for another command")
    assert len(records) == count
    arms.silent.clear()
    wait_until(lambda: len(records) > count + 20, "it goes on")
    steps = np.abs(np.diff([record.sent for record in records], axis=0))
    assert steps.max() < 0.15, "without a leap"
    arms.silent.add("follower_left")
    assert process.wait() == 1
    assert "joint states are missing: follower_left: " in process.text


def test_another_rigs_episode_is_refused_in_one_line(tmp_path, spawn):
    path = write(tmp_path, rows=3)
    process = replay(spawn, "commands", path, "--rig", CONFIG / "teleavatar.yaml")
    assert process.wait() == 2
    assert len(process.text.strip().splitlines()) == 1 and "its actions are left_waist" in process.text
    with h5py.File(path, "r+") as file:
        file["vla/command"][:] = np.nan
    process = replay(spawn, "commands", path)
    assert process.wait() == 2 and "has no row with a command to replay" in process.text


def test_commands_move_the_simulated_arms(tmp_path, graph, spawn):
    """MuJoCo behind the rig's topics, on simulated time, in lockstep; no cameras, for they cost time."""
    blind = tmp_path / "blind.yaml"
    blind.write_text(
        yaml.safe_dump(yaml.safe_load(load_rig(CONFIG / "aloha_sim.yaml").to_yaml()) | {"cameras": {}})
    )
    states = graph.listen(JointState, "follower_left/joint_states", qos.SENSOR)
    records = graph.listen(RigCommand, "command", 500)
    options = {"real_time_factor": 0.0, "lockstep_timeout_s": 60.0}
    sim = spawn(node_command("vla_sim.rig_node", rig=blind, **options))
    wait_until(lambda: states, "joint states")
    expected = swing(80)
    path = write(tmp_path, rows=80, change=follow(expected))
    process = replay(spawn, "commands", path, "--rig", blind, "--ros-args", "-p", "use_sim_time:=true")
    assert process.wait() == 0, process.text + sim.text
    stamps_ns = np.array([stamp_ns(record.header.stamp) for record in records])
    found = stamps_ns[25:]  # until they have found each other, the simulation goes on by itself
    assert (np.diff(found) == 20_000_000).all() and (found % 20_000_000 == 0).all(), "a command for each tick"
    requested = np.array([record.requested for record in records])
    last = np.flatnonzero((np.abs(requested - expected[-1]) < 1e-5).all(axis=1))[0]
    np.testing.assert_allclose(requested[last - 79 : last + 1], expected, atol=1e-5)
    end_ns = stamps_ns[-1]
    there = next(
        s for s in reversed(states) if Time.from_msg(s.header.stamp).nanoseconds >= end_ns - 20_000_000
    )
    measured = dict(zip(there.name, there.position, strict=True))
    assert measured["waist"] == pytest.approx(expected[-1, 0], abs=0.05), (
        "gravity and inertia, but it is there"
    )
