"""Simulated rig, demonstrator and teleop as processes: leaders move, followers follow, the task succeeds."""

import pytest
from geometry_msgs.msg import Pose
from sensor_msgs.msg import JointState
from sim_graph import blind_rig, graph, stamp_ns
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vla_msgs.msg import TaskStatus
from vla_msgs.srv import ResetWorld
from vla_rig import qos
from vla_sim.demonstrator_node import was_reset
from vla_sim.world import ARM_JOINTS, START_ARM_RAD

LEADER_CLOSED_RAD, LEADER_OPEN_RAD = -0.6842, 0.3083


@pytest.fixture
def onlooker(tmp_path, domain_id):
    with graph(tmp_path, domain_id) as opened:
        yield opened


def start(onlooker):
    return onlooker.call(Trigger, "demonstrator/start", Trigger.Request())


def reset(onlooker, **world):
    answer = onlooker.call(ResetWorld, "sim_rig/reset", ResetWorld.Request(**world))
    assert answer.success, answer.message


def test_leaders_answer_every_status(onlooker, tmp_path):
    rig = blind_rig(tmp_path)
    deep = qos.reliable(1000)  # none may be lost while this process waits for its turn
    leaders = {
        arm: onlooker.collect(JointState, f"leader_{arm}/joint_states", profile=deep)
        for arm in ("left", "right")
    }
    statuses = onlooker.collect(TaskStatus, "task_status", profile=deep)
    done = onlooker.collect(Bool, "demonstrator/done", profile=qos.STATUS)
    onlooker.start("vla_sim", "demonstrator", rig=rig)
    answer = start(onlooker)
    assert not answer.success and "is sim_rig running?" in answer.message
    onlooker.start("vla_sim", "sim_rig", rig=rig, real_time_factor=1.0)
    arrived = [statuses, *leaders.values()]  # discovery takes its time, for each of them
    onlooker.until(lambda: all(len(messages) > 10 for messages in arrived), "leaders at rest")
    stamps = {stamp_ns(s.header.stamp) for s in statuses}
    for messages in leaders.values():
        assert list(messages[-1].name) == [*ARM_JOINTS, "gripper"]
        assert list(messages[-1].position) == pytest.approx([*START_ARM_RAD, LEADER_CLOSED_RAD])
        answered = {stamp_ns(m.header.stamp) for m in messages}
        answered = {at for at in answered if min(stamps) <= at <= max(stamps)}
        assert len(answered) > 3
        assert answered <= stamps
    assert start(onlooker).success
    right = leaders["right"]
    onlooker.until(lambda: right[-1].position[6] == pytest.approx(LEADER_OPEN_RAD), "the gripper to open")
    assert not start(onlooker).success, "one demonstration at a time"
    assert [m.data for m in done] == [False] * len(done)
    reset(onlooker, seed=9)
    rest = pytest.approx([*START_ARM_RAD, LEADER_CLOSED_RAD])
    onlooker.until(lambda: list(right[-1].position) == rest, "leaders back at rest after the reset")
    assert onlooker.interrupt("demonstrator") == 0
    assert "Traceback" not in onlooker.log("demonstrator")


@pytest.mark.parametrize("task", ["transfer_cube", "insertion"])
def test_teleoperated_demonstration_succeeds(onlooker, tmp_path, task):
    rig = blind_rig(tmp_path)
    done = onlooker.collect(Bool, "demonstrator/done", profile=qos.STATUS)
    onlooker.start("vla_sim", "sim_rig", rig=rig, task=task, real_time_factor=0.0, lockstep_timeout_s=60.0)
    onlooker.start("vla_sim", "demonstrator", rig=rig, use_sim_time=True)
    onlooker.start("vla_rig", "teleop", rig=rig, use_sim_time=True, lockstep=True)
    onlooker.until(lambda: "mirroring" in onlooker.log("teleop"), "teleop")
    for seed in (1, 2):
        reset(onlooker, seed=seed)
        before = len(done)
        answer = start(onlooker)  # at once: the demonstrator may not have seen the new world yet
        assert answer.success, answer.message
        onlooker.until(lambda n=before: any(m.data for m in done[n:]), "the end of the demonstration")
        assert onlooker.status.seed == seed
        onlooker.until(lambda: onlooker.status.success and onlooker.status.reward == 4, "success")
    assert "lockstep: no command" not in onlooker.log("sim_rig")


def test_what_counts_as_a_reset():
    def status(seed=0, task="insertion", max_reward=2, x=0.1):
        message = TaskStatus(seed=seed, task=task, max_reward=max_reward, object_names=["cube"])
        pose = Pose()
        pose.position.x = x
        message.object_poses = [pose]
        return message

    assert not was_reset(status(), status())
    assert not was_reset(status(), status(max_reward=3, x=0.11)), "an object being moved"
    assert was_reset(status(), status(seed=1))
    assert was_reset(status(), status(task="transfer_cube"))
    assert was_reset(status(), status(max_reward=0))
    assert was_reset(status(), status(x=0.2))
