"""Commands to messages and back."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st

from vla_rig.rig import Sink
from vla_rig.rig_file import load_rig, rig_from_yaml
from vla_rig.sinks import RigSinks, SinkError, decode, encode, message_class

CONFIG = Path(__file__).parents[2] / "config"
STANDARD = (
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
)
finite = st.floats(allow_nan=False, allow_infinity=False)


def sink(message: str, **more) -> Sink:
    return Sink(topic="arm/command", message=message, joints=["b", "a", "c"], **more)


@pytest.mark.parametrize("quantity", ["position", "velocity", "effort"])
@pytest.mark.parametrize("message", STANDARD)
@given(values=st.tuples(finite, finite, finite))
def test_decode_is_the_inverse_of_encode(message, quantity, values):
    sent = encode(sink(message), quantity, np.array(values), Time(sec=3), 0.02)
    assert decode(sink(message), quantity, sent) == dict(zip("bac", values, strict=True))


def test_stamps():
    assert encode(sink(STANDARD[0]), "position", np.zeros(3), Time(sec=3), 0.02).header.stamp.sec == 3
    trajectory = encode(sink(STANDARD[1]), "position", np.zeros(3), Time(sec=3), 0.02)
    assert trajectory.header.stamp == Time(), "zero: the controller starts at once"
    assert trajectory.points[0].time_from_start.nanosec == 20_000_000


@pytest.mark.parametrize(
    ("names", "values", "said"),
    [
        (["b", "a"], [1.0, 2.0], "expected"),
        (["b", "a", "c"], [1.0, 2.0], "got 2 values"),
        (["b", "a", "a"], [1.0, 2.0, 3.0], "expected"),
        (["b", "a", "x"], [1.0, 2.0, 3.0], "expected"),
        (["b", "a", "c"], [1.0, float("nan"), 3.0], "joint 'a' is nan"),
    ],
)
def test_messages_that_do_not_fit_are_refused(names, values, said):
    message = message_class(STANDARD[0])(name=names, position=values)
    with pytest.raises(SinkError, match="arm/command.*" + said):
        decode(sink(STANDARD[0]), "position", message)


def test_an_empty_trajectory_is_refused():
    with pytest.raises(SinkError):
        decode(sink(STANDARD[1]), "position", message_class(STANDARD[1])(joint_names=["b", "a", "c"]))


def rig_sinks(graph, rig):
    sinks = RigSinks(graph.node, rig)
    sinks.open()
    return sinks


def test_a_missing_message_package_is_named(graph):
    if importlib.util.find_spec("interbotix_xs_msgs"):
        pytest.skip("interbotix_xs_msgs is installed here")
    with pytest.raises(SinkError, match=r"sink 'left_arm' of rig 'aloha'.*package 'interbotix_xs_msgs'"):
        RigSinks(graph.node, load_rig(CONFIG / "aloha.yaml"))


def test_actions_go_out_in_raw_units_and_in_the_sinks_own_order(graph):
    text = load_rig(CONFIG / "aloha_sim.yaml").to_yaml()
    order = "  - waist\n  - shoulder\n"
    head, tail = text.split("sinks:", 1)
    indented = "".join(f"  {line}\n" for line in order.splitlines())
    assert indented in tail
    tail = tail.replace(indented, "    - shoulder\n    - waist\n", 1)
    rig = rig_from_yaml(head + "sinks:" + tail)
    from support.processes import wait_until

    got = {n: graph.listen(message_class(s.message), s.topic) for n, s in rig.sinks.items()}
    sinks = rig_sinks(graph, rig)
    wait_until(lambda: all(p.get_subscription_count() for p in sinks._publishers.values()), "discovery")
    action = np.arange(14) * 0.1
    sinks.send(action, Time(sec=1))
    wait_until(lambda: all(got.values()), "commands")
    assert list(got["left_arm"][0].name)[:2] == ["shoulder", "waist"]
    assert list(got["left_arm"][0].position)[:2] == pytest.approx([0.1, 0.0])
    closed, opened = rig.ranges["follower_gripper_rad"]
    assert got["left_gripper"][0].position[0] == pytest.approx(closed + 0.6 * (opened - closed))
    assert got["right_gripper"][0].position[0] == pytest.approx(closed + 1.3 * (opened - closed))


def test_nothing_leaves_when_one_value_is_bad_or_before_opening(graph):
    rig = load_rig(CONFIG / "aloha_sim.yaml")
    with pytest.raises(SinkError, match="not open"):
        RigSinks(graph.node, rig).send(np.zeros(14), Time())
    bad = np.zeros(14)
    bad[13] = np.nan
    with pytest.raises(SinkError, match="not finite"):
        rig_sinks(graph, rig).send(bad, Time())


def test_effort_commands_carry_zero_position_and_velocity():
    message = encode(sink(STANDARD[0]), "effort", np.array([1.0, 2.0, 3.0]), Time(), 0.02)
    assert list(message.position) == list(message.velocity) == [0.0] * 3 and list(message.effort) == [1, 2, 3]
