"""The start gesture: all leader grippers, open before, closed together and held."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import JointState

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.gesture import CLOSED, OPEN, StartGesture, gripper_reader
from vla_recorder.texts import Texts, check_length
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).parents[2] / "config"


def play(gesture, *moments):
    """Update with (seconds, left, right); the times at which it was made."""
    return [t for t, *openings in moments if gesture.update(openings if openings[0] is not None else None, t)]


def test_all_closed_and_held_starts_once():
    gesture = StartGesture(hold_s=0.5)
    assert play(gesture, (0, 0.9, 0.9), (1, 0.1, 0.9), (2, 0.1, 0.1), (2.4, 0.1, 0.1), (2.5, 0.1, 0.1)) == [
        2.5
    ]
    assert play(gesture, (3, 0.1, 0.1), (9, 0.0, 0.0)) == []  # still closed: no second time
    assert play(gesture, (10, 0.9, 0.9), (11, 0.0, 0.0), (11.5, 0.0, 0.0)) == [11.5]


@pytest.mark.parametrize(
    "moments",
    [
        [(0, 0.0, 0.0), (9, 0.0, 0.0)],  # closed from the beginning: a leader that lies there
        [(0, 0.9, 0.1), (1, 0.1, 0.1), (9, 0.1, 0.1)],  # one was never open
        [(0, 0.9, 0.9), (1, 0.1, 0.1), (1.3, 0.3, 0.1), (1.6, 0.1, 0.1), (2.0, 0.1, 0.1)],  # let go between
        [
            (0, 0.9, 0.9),
            (1, 0.1, 0.1),
            (1.3, None, None),
            (1.6, 0.1, 0.1),
            (2.0, 0.1, 0.1),
        ],  # not known between
        [(0, 0.9, 0.9), (1, 0.1, 0.1), (2, math.nan, math.nan)],
    ],
)
def test_what_is_no_gesture(moments):
    assert play(StartGesture(hold_s=0.5), *moments) == []


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 2), max_size=60), st.integers(1, 5))
def test_a_gesture_needs_an_opening_of_each_and_a_hold_of_all(openings, ticks):
    """Against the definition, looked up in the whole history."""
    gesture, begin = StartGesture(hold_s=ticks), 0
    for t in range(len(openings)):
        made = gesture.update(openings[t], float(t))
        seen = openings[begin : t + 1]
        held = [both for both in seen[-ticks - 1 :] if max(both) < CLOSED]
        before = seen[: len(seen) - ticks - 1]
        opened = all(any(both[i] > OPEN for both in before) for i in range(2))
        assert made == (len(held) == ticks + 1 and opened)
        begin = t + 1 if made else begin


def test_the_openings_of_the_real_leaders():
    """The gripper joint in rad, by the rig file's range: 0 closed, 1 open."""
    rig = load_rig(CONFIG / "aloha.yaml")
    closed, opened = rig.ranges["leader_gripper_rad"]
    joints = rig.joint_sources["leader_left"].joints
    messages = {
        name: JointState(name=joints, position=[value if joint == "gripper" else 9.0 for joint in joints])
        for name, value in (("leader_left", closed), ("leader_right", opened))
    }
    assert gripper_reader(rig).read(messages) == pytest.approx([0.0, 1.0])
    assert gripper_reader(load_rig(CONFIG / "teleavatar.yaml")) is None


def test_texts_by_time():
    texts = Texts("fold", ["reach", "", "lift"])
    assert texts.substeps == ["reach", "lift"] and texts.at(-5) == texts.substep == "reach"
    assert texts.next_substep(100) and not texts.next_substep(150)
    texts.set_substep("wait", 200)  # one that was not known ahead
    assert texts.choose_substep(0, 300) and not texts.choose_substep(2, 310)
    texts.set_substep("", 400)
    texts.set_instruction("fold it", 500)
    assert [texts.at(t) for t in (99, 100, 199, 200, 299, 300, 399, 400, 499, 500)] == (
        ["reach", "lift", "lift", "wait", "wait", "reach", "reach", "fold", "fold", "fold it"]
    )
    assert texts.instruction == "fold it" and texts.substep == "" and texts.next_substep(600)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(EpisodeError, match=r"5000 characters is too long, at most 4000: 'xxx"):
        Texts("fold", ["reach", "x" * 5000])
    assert check_length("ü" * 4000) == "ü" * 4000


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["a", "b", ""])), max_size=20), st.integers(-1, 60)
)
def test_the_text_in_force_is_the_last_one_set_before(changes, t):
    changes = sorted(changes, key=lambda change: change[0])
    texts = Texts("whole")
    for at, text in changes:
        texts.set_substep(text, at)
    known = [text for at, text in changes if at <= t]
    assert texts.at(t) == ((known[-1] if known else "") or "whole")
