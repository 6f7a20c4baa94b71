"""Joint states to vectors, by name."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import JointState

from vla_rig.joints import (
    JointError,
    effort_reader,
    feedback_reader,
    leader_reader,
    state_reader,
    velocity_reader,
)
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).parents[2] / "config"
RIG = load_rig(CONFIG / "aloha.yaml")
JOINTS = RIG.joint_sources["follower_left"].joints


def messages() -> dict[str, JointState]:
    """Every source's joints at 0.01, 0.02 ... plus the source's own hundreds; fingers within their range."""
    out = {}
    for number, (name, source) in enumerate(RIG.joint_sources.items()):
        values = [number + 0.01 * (i + 1) for i in range(len(source.joints))]
        values[7] = [0.0440, 0.0579, 0.05095, 0.05095][number]
        out[name] = JointState(
            name=source.joints,
            position=values,
            velocity=[10 + v for v in values],
            effort=[20 + v for v in values],
        )
    return out


def test_state_is_left_arm_left_gripper_right_arm_right_gripper():
    arm = np.arange(1, 7) * 0.01
    expected = [*arm, 0.0, *(arm + 1), 1.0]
    np.testing.assert_allclose(state_reader(RIG).read(messages()), expected, atol=1e-6)


def test_the_rest_of_the_row():
    sent = messages()
    velocity, effort = velocity_reader(RIG).read(sent), effort_reader(RIG).read(sent)
    assert velocity[0] == pytest.approx(10.01)
    assert velocity[6] == pytest.approx(10.044 / (0.0579 - 0.0440))
    assert effort[6] == pytest.approx(20.07), "gripper current, not the finger's constant 0"
    leader, feedback = leader_reader(RIG).read(sent), feedback_reader(RIG).read(sent)
    assert leader[7] == pytest.approx(3.01) and feedback[7] == pytest.approx(1.01)
    assert leader[6] == pytest.approx((2.07 + 0.0552) / (0.8298 + 0.0552))
    assert feedback[6] == pytest.approx((0.07 - 0.6197) / (1.6214 - 0.6197))


@given(st.permutations(range(len(JOINTS))), st.booleans())
def test_order_and_extra_joints_in_the_message_do_not_matter(order, extra):
    sent = messages()
    for name, m in messages().items():
        tail = (["spare"], [9.0]) if extra else ([], [])
        sent[name] = JointState(
            name=[m.name[i] for i in order] + tail[0], position=[m.position[i] for i in order] + tail[1]
        )
    np.testing.assert_array_equal(state_reader(RIG).read(sent), state_reader(RIG).read(messages()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": JOINTS[1:], "position": [0.0] * 8}, "joint 'waist' is missing"),
        ({"position": [0.0] * 6}, "9 names but 6 values of position"),
        ({"position": []}, "9 names but 0 values of position"),
        ({"position": [0.0, float("nan"), *[0.0] * 7]}, "position of joint 'shoulder' is nan"),
        ({"position": [float("-inf"), *[0.0] * 8]}, "position of joint 'waist' is -inf"),
    ],
)
def test_unusable_positions_are_errors_that_name_topic_and_joint(change, said):
    sent = messages()
    for key, value in change.items():
        setattr(sent["follower_right"], key, value)
    with pytest.raises(JointError, match="follower_right/joint_states: " + said):
        state_reader(RIG).read(sent)


def test_a_source_without_a_message_is_named():
    sent = messages()
    del sent["follower_left"]
    with pytest.raises(JointError, match="follower_left/joint_states: nothing received"):
        state_reader(RIG).read(sent)


def test_velocity_a_driver_does_not_publish_reads_as_nan_but_a_short_one_is_an_error():
    sent = messages()
    sent["follower_left"].velocity = []
    sent["follower_right"].velocity = [float("nan")] * 9  # ros2_control does so
    assert np.isnan(velocity_reader(RIG).read(sent)).all()
    sent["follower_left"].velocity = [0.0] * 3
    with pytest.raises(JointError, match="9 names but 3 values of velocity"):
        velocity_reader(RIG).read(sent)


def test_a_rig_without_leaders_cannot_be_teleoperated():
    with pytest.raises(JointError, match="left_joint1"):
        leader_reader(load_rig(CONFIG / "teleavatar.yaml"))


def test_unmeasured_channels_read_as_nan():
    rig = load_rig(CONFIG / "teleavatar.yaml")
    sent = {
        n: JointState(name=s.joints, position=[0.5] * len(s.joints)) for n, s in rig.joint_sources.items()
    }
    measured = feedback_reader(rig).read(sent)
    assert [i for i in range(16) if np.isnan(measured[i])] == [7, 15]
