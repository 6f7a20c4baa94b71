"""Rows out of streams that the test fills by hand; no node, no clock."""

import weakref

import numpy as np
import pytest
from recorder_harness import RIG
from sensor_msgs.msg import JointState

from vla_msgs.msg import RigCommand
from vla_recorder.bags.inputs import BagCommands, BagInputs
from vla_recorder.rows import RigRows
from vla_recorder.texts import Texts
from vla_rig.rig_file import load_rig

MS = 1_000_000
FOLLOWERS, LEADERS = ["follower_left", "follower_right"], ["leader_left", "leader_right"]


class Streams:
    def __init__(self, with_leaders=True):
        self.rig = load_rig(RIG).model_copy(update={"cameras": {}})
        self.followers, self.leaders = (
            BagInputs(self.rig, [], names, str, print) for names in (FOLLOWERS, LEADERS)
        )
        self.commands = BagCommands(self.rig, str, print)
        self.texts = Texts("fold", ["reach", "lift"])
        leaders = self.leaders if with_leaders else None
        self.rows = RigRows(self.rig, self.followers, self.commands, "command", leaders, self.texts)

    def joints(self, name, at_ms, value=0.5):
        joints = self.rig.joint_sources[name].joints
        inputs = self.followers if name in FOLLOWERS else self.leaders
        assert inputs.aligner.push(name, at_ms * MS, JointState(name=joints, position=[value] * len(joints)))

    def all(self, at_ms, *but):
        for name in FOLLOWERS + LEADERS:
            if name not in but:
                self.joints(name, at_ms - 2)
        names = self.rig.action_names
        numbers = [float(at_ms)] * len(names)
        self.commands.history.push(at_ms * MS, RigCommand(names=names, requested=numbers, sent=numbers))

    def row(self, at_ms):
        return self.rows.row(at_ms * MS)


def test_a_message_that_came_after_its_row_is_counted_as_late():
    streams = Streams()
    streams.all(100)
    assert streams.row(100)[1] == {}
    streams.all(120, "follower_left")
    streams.row(120)  # without it
    streams.joints("follower_left", 118)
    streams.all(140, "follower_left")
    row, _ = streams.row(140)
    assert row.stream_stamps_ns[streams.rows.stream_names.index("follower_left")] == 118 * MS
    streams.all(160)
    row, _ = streams.row(160)
    late = {name: count for name, count in streams.rows.late.items() if count}
    assert late == {"follower_left": 1}  # and no other, though commands always come after their row


def test_leaders_are_recorded_beside_the_command_and_marked_when_they_go():
    streams = Streams()
    streams.all(100)
    row, problems = streams.row(100)
    leader = np.array([(0.5 - offset) * gain for offset, gain in map(streams.rig.scale, ranges(streams.rig))])
    np.testing.assert_allclose(row.leader, leader, rtol=1e-6)
    assert (row.action == 100).all() and not problems and row.fresh.all()
    streams.all(300, "leader_right")
    row, problems = streams.row(300)
    assert (
        list(problems) == ["leader_right"]
        and np.isfinite(row.leader[:7]).all()
        and np.isnan(row.leader[7:]).all()
    )
    assert (row.action == 300).all()


def test_without_leaders_nothing_waits_for_them():
    streams = Streams(with_leaders=False)
    streams.all(100, *LEADERS)
    streams.all(120, *LEADERS)
    row, problems = streams.row(100)
    assert row.leader is None and not problems and streams.rows.stream_names == [*FOLLOWERS, "command"]
    assert streams.rows.settled(100 * MS) and not streams.rows.settled(120 * MS)


@pytest.mark.parametrize(("since_ms", "expected"), [(90, "lift"), (100, "lift"), (101, "reach")])
def test_a_row_has_the_sub_step_in_force_at_its_time(since_ms, expected):
    """However late the row is made."""
    streams = Streams()
    streams.all(100)
    streams.texts.next_substep(since_ms * MS)
    assert streams.row(100)[0].substep == expected


def ranges(rig):
    return [channel.leader.range for channel in rig.action]


def test_messages_that_no_later_row_needs_are_let_go_of():
    """Queued rows and rings together would hold twice the frames when the disk is slow."""
    streams, positions = Streams(), {}
    for at_ms in range(100, 400, 20):
        streams.all(at_ms)
        message = streams.followers.sample(at_ms * MS).values["follower_left"]
        positions[at_ms] = weakref.ref(message.position)
    del message
    streams.row(300)
    assert [at_ms for at_ms, position in positions.items() if position()] == list(range(300, 400, 20))
