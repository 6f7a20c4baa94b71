"""What an episode must hold, number by number, when recorder_rig_publisher.py published it."""

import numpy as np
from recorder_harness import RIG
from recorder_rig_publisher import (
    COMMAND_AFTER_NS,
    JOINTS_BEFORE_NS,
    PERIOD_NS,
    action_value,
    camera_k,
    colour,
    joint_value,
)

from vla_recorder.episode.reader import EpisodeReader
from vla_rig.rig_file import load_rig

CAMERAS = ["cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"]


def expected_state(rig, k_of_source):
    """qpos, qvel, effort from what the publisher put into each joint at grid time k_of_source[source]."""
    sources = list(rig.joint_sources)
    qpos, qvel, effort = [], [], []
    for channel in rig.state:
        joints = rig.joint_sources[channel.source].joints
        source_index, k = sources.index(channel.source), k_of_source[channel.source]
        offset, gain = rig.scale(channel.range)
        raw = joint_value(source_index, joints.index(channel.joint), k)
        qpos.append((raw - offset) * gain)
        qvel.append((raw + 0.5) * gain)
        effort.append(
            joint_value(source_index, joints.index(channel.effort_joint or channel.joint), k) + 1000
        )
    return np.array([qpos, qvel, effort])


def expected_leader(rig, k_of_source):
    """The leaders in the action's units, from what the publisher put into each joint."""
    leader = []
    for channel in rig.action:
        joints = rig.joint_sources[channel.leader.source].joints
        source_index = list(rig.joint_sources).index(channel.leader.source)
        offset, gain = rig.scale(channel.leader.range)
        k = k_of_source[channel.leader.source]
        leader.append((joint_value(source_index, joints.index(channel.leader.joint), k) - offset) * gain)
    return np.array(leader)


def check_rows(path):
    """Every number and frame of every healthy row is what its stamps say, none is from the row's future.

    Returns how many rows hold exactly the messages that were published for their time: all, unless a message
    was lost or a stream of the test fails.
    """
    rig, on_time = load_rig(RIG), 0
    with EpisodeReader(path) as episode:
        assert (np.diff(episode.stamps_ns) == PERIOD_NS).all() and (episode.stamps_ns % PERIOD_NS == 0).all()
        for t in np.flatnonzero(episode.fresh.all(axis=1)):
            k = int(episode.stamps_ns[t] // PERIOD_NS)
            stamps = dict(zip(episode.stream_names, map(int, episode.stream_stamps_ns[t]), strict=True))
            due = dict.fromkeys(CAMERAS, camera_k(k) * PERIOD_NS)
            due |= {name: k * PERIOD_NS - JOINTS_BEFORE_NS for name in rig.joint_sources if name in stamps}
            due["command"] = k * PERIOD_NS + COMMAND_AFTER_NS
            on_time += stamps == due
            assert all(stamps[name] <= due[name] for name in due)
            k_of_source = {name: (at_ns + JOINTS_BEFORE_NS) // PERIOD_NS for name, at_ns in stamps.items()}
            state = np.array([episode.qpos[t], episode.qvel[t], episode.effort[t]])
            np.testing.assert_allclose(state, expected_state(rig, k_of_source), rtol=1e-5, atol=1e-4)
            k_command = stamps["command"] // PERIOD_NS
            action = np.array([action_value(i, k_command) for i in range(14)])
            np.testing.assert_allclose(episode.action[t], action, atol=1e-6)
            np.testing.assert_allclose(episode.command[t], action + 0.25, atol=1e-6)
            if episode.leader is not None:
                np.testing.assert_allclose(episode.leader[t], expected_leader(rig, k_of_source), rtol=1e-5)
            assert episode.interventions[t] == ("velocity: left_waist" if k_command % 10 == 0 else "")
            assert episode.command_sources[t] == "teleop"
            for i, camera in enumerate(CAMERAS):
                frame = episode.images(camera)[t]
                assert tuple(frame[0, 0]) == tuple(frame[-1, -1]) == colour(i, stamps[camera] // PERIOD_NS)
        return on_time
