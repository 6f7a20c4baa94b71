"""The teleop node as people run it: its own process, real DDS."""

import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_srvs.srv import Trigger
from support.arms import Arms
from support.processes import node_command, wait_until

from vla_msgs.msg import RigCommand
from vla_rig.commander import NEWCOMER_S
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).parents[2] / "config"
SIM = CONFIG / "aloha_sim.yaml"
TELEOP = "vla_rig.teleop"


@pytest.fixture
def arms(graph):
    arms = Arms(graph, load_rig(SIM))
    yield arms
    arms.close()


def start_teleop(spawn):
    process = spawn(node_command(TELEOP, rig=SIM))
    process.wait_for("mirroring")
    return process


def assert_silence(arms) -> None:
    """No command for 20 ticks, after what was under way has arrived."""
    ticks = arms.ticks
    wait_until(lambda: arms.ticks > ticks + 10, "ticks")
    before, ticks = len(arms.commands), arms.ticks
    wait_until(lambda: arms.ticks > ticks + 20, "ticks")
    assert len(arms.commands) == before


def test_mirrors_in_raw_units_within_the_speed_limit_and_records_what_it_did(arms, graph, spawn):
    records = graph.listen(RigCommand, "command", 50)
    teleop = start_teleop(spawn)
    wait_until(arms.reached, "followers at the leaders")
    rig, seen = arms.rig, len(records)
    arms.leader["leader_left"]["waist"] = 1.2
    wait_until(lambda: limited(records[seen:]), "the speed limit to be recorded")
    wait_until(arms.reached, "followers at the leaders again")
    wait_until(lambda: np.allclose(records[-1].requested, records[-1].sent), "requested = sent")
    last = records[-1]
    assert list(last.names) == rig.action_names and last.source == RigCommand.SOURCE_TELEOP
    speed = np.array([c.max_velocity for c in rig.action])
    sent = np.array([r.sent for r in records])
    assert (np.abs(np.diff(sent, axis=0)) <= 2 * rig.dt_s * speed + 1e-5).all()
    low, high = rig.ranges["leader_gripper_rad"]
    assert last.requested[6] == pytest.approx((0.2 - low) / (high - low), abs=1e-5)
    closed, opened = rig.ranges["follower_gripper_rad"]
    expected = closed + (0.2 - low) / (high - low) * (opened - closed)

    def gripper():
        return [r["gripper"] for topic, r in arms.commands if topic == "follower_left/commands/joint_single"]

    wait_until(lambda: gripper()[-1] == pytest.approx(expected, abs=1e-4), "gripper there")
    assert teleop.interrupt() == 0
    assert "Traceback" not in teleop.text


def limited(records) -> bool:
    return any(text.startswith("velocity: left_waist") for record in records for text in record.interventions)


def test_holds_and_names_a_bad_joint_then_a_dead_topic(arms, graph, spawn):
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    teleop = start_teleop(spawn)
    wait_until(arms.reached, "followers at the leaders")
    arms.leader["leader_left"]["waist"] = float("nan")
    teleop.wait_for("holding: leader_left/joint_states: position of joint 'waist' is nan")
    assert_silence(arms)
    arms.leader["leader_left"]["waist"] = 0.4
    wait_until(arms.reached, "mirroring goes on")
    arms.silent.add("leader_right")
    teleop.wait_for("holding: leader_right: ")
    assert_silence(arms)
    assert all(raw == raw for _, commands in arms.commands for raw in commands.values()), "no NaN was sent"

    def warned() -> bool:
        last = {s.name: s for s in diagnostics[-1].status} if diagnostics else {}
        stale = last.get("teleop: leader_right")
        return stale is not None and stale.level == DiagnosticStatus.WARN and "limit" in stale.message

    wait_until(warned, "diagnostics warn of leader_right")
    names = {s.name: s for s in diagnostics[-1].status}
    assert {"teleop: follower_left", "teleop: command gate"} <= set(names)


def test_a_second_commander_refuses_and_the_first_goes_on(arms, graph, spawn):
    first = start_teleop(spawn)
    opened_s = time.monotonic()
    wait_until(lambda: time.monotonic() - opened_s > NEWCOMER_S, "the first is no newcomer")
    second = spawn([*node_command(TELEOP, rig=SIM), "-r", "__node:=intruder"])
    second.wait_for("another node commands this rig already")
    second.wait_for("stopped: another node")
    arms.leader["leader_left"]["waist"] = 0.5
    wait_until(arms.reached, "the first still mirrors")
    assert first.interrupt() == 0
    assert_silence(arms)  # the second does not take over by itself
    assert second.interrupt() == 0
    assert "(by /teleop)" in second.text or "not discovered yet" in second.text


def test_stop_holds_and_start_ramps_from_the_measured_pose(arms, graph, spawn):
    records = graph.listen(RigCommand, "command", 50)
    start_teleop(spawn)
    wait_until(arms.reached, "followers at the leaders")
    assert graph.call(Trigger, "teleop/stop").success
    arms.leader["leader_left"]["waist"] = -0.8
    assert_silence(arms)
    arms.follower["follower_left"]["waist"] = 1.0  # moved by hand meanwhile
    ticks = arms.ticks
    wait_until(lambda: arms.ticks > ticks + 10, "the new pose is published")
    before = len(records)
    assert graph.call(Trigger, "teleop/start").success
    wait_until(lambda: len(records) > before, "commands again")
    step = 2 * arms.rig.dt_s * arms.rig.action[0].max_velocity
    assert 1.0 - step - 1e-5 <= records[before].sent[0] < 1.0
    wait_until(arms.reached, "followers at the leaders again")


@pytest.mark.parametrize(
    ("rig", "said"),
    [
        ("/nowhere/rig.yaml", "rig file '/nowhere/rig.yaml' does not exist"),
        (CONFIG / "teleavatar.yaml", "maps no leader joint to left_joint1"),
        (5, "rig"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(spawn, rig, said):
    process = spawn(node_command(TELEOP, rig=rig))
    assert process.wait() == 2
    assert said in process.text and len(process.text.strip().splitlines()) == 1, process.text
