"""The simulated rig as its own process over real DDS, with the project's own rig file."""

import os
import subprocess

import numpy as np
import pytest
import yaml
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, JointState
from sim_graph import Graph, blind_rig, executable, graph, parameters, stamp_ns
from sim_trial import RIG_FILE
from support.processes import DEADLINE_S
from support.services import until_known

from vla_msgs.srv import ResetWorld
from vla_rig import qos
from vla_rig.images import to_rgb
from vla_rig.rig_file import load_rig
from vla_rig.sinks import encode, message_class
from vla_sim.tasks import TASKS
from vla_sim.world import JOINTS, START_ARM_RAD

RIG = load_rig(RIG_FILE)
TICK_NS = 20_000_000


@pytest.fixture
def onlooker(tmp_path, domain_id):
    with graph(tmp_path, domain_id) as opened:
        yield opened


class Commander:
    """Publishes on every sink of a rig what the test asks for."""

    def __init__(self, opened: Graph, rig):
        self._rig = rig
        self._publishers = {
            name: opened.node.create_publisher(message_class(sink.message), sink.topic, qos.COMMAND)
            for name, sink in rig.sinks.items()
        }
        self._node = opened.node
        opened.until(
            lambda: all(p.get_subscription_count() for p in self._publishers.values()), "subscribed commands"
        )

    def send(self, t_ns: int, waist_rad: float = 0.0, gripper_rad: float = -0.6213):
        pose = {**dict(zip(JOINTS, START_ARM_RAD, strict=False)), "waist": waist_rad, "gripper": gripper_rad}
        for name, sink in self._rig.sinks.items():
            raw = np.array([pose[joint] for joint in sink.joints])
            stamp = Time(nanoseconds=t_ns).to_msg()
            self._publishers[name].publish(encode(sink, "position", raw, stamp, 0.02))

    def leave(self):
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)


def test_publishes_the_rig_of_the_rig_file(onlooker):
    arms = {n: onlooker.collect(JointState, RIG.joint_sources[n].topic) for n in RIG.follower_sources}
    images = {n: onlooker.collect(Image, camera.topic) for n, camera in RIG.cameras.items()}
    onlooker.start("vla_sim", "sim_rig", rig=RIG_FILE, real_time_factor=0.0, seed=3)
    everything = [*arms.values(), *images.values()]
    onlooker.until(lambda: all(len(messages) >= 5 for messages in everything), "five messages on each topic")
    onlooker.until(lambda: onlooker.status, "task_status")
    for messages in arms.values():
        stamps = [stamp_ns(m.header.stamp) for m in messages]
        assert all(s % TICK_NS == 0 for s in stamps) and np.all(np.diff(stamps) > 0)
        newest = messages[-1]
        assert list(newest.name) == list(JOINTS)
        assert len(newest.position) == len(newest.velocity) == len(newest.effort) == len(JOINTS)
        assert newest.position[:6] == pytest.approx(START_ARM_RAD, abs=0.02)
        assert newest.position[7] == pytest.approx(-newest.position[8], abs=2e-3)
    period_ns = round(1e9 / RIG.cameras["cam_high"].rate_hz)
    for name, messages in images.items():
        assert all(stamp_ns(m.header.stamp) % period_ns == 0 for m in messages)
        newest = messages[-1]
        assert (newest.height, newest.width, newest.encoding, newest.step) == (480, 640, "rgb8", 1920)
        pixels = to_rgb(newest)
        assert pixels.std() > 15 and len(np.unique(pixels)) > 20, f"{name} shows nothing"
    red = (to_rgb(images["cam_high"][-1]).astype(int) @ [1, -1, -1]) > 80
    assert 100 < red.sum() < 10_000, "cam_high does not see the cube"
    assert onlooker.clocks_ns == sorted(set(onlooker.clocks_ns))
    assert onlooker.status.task == "transfer_cube" and onlooker.status.seed == 3
    assert onlooker.interrupt("sim_rig") == 0
    assert "Traceback" not in onlooker.log("sim_rig")


def test_lockstep_takes_one_step_per_command(onlooker, tmp_path):
    onlooker.start(
        "vla_sim", "sim_rig", rig=blind_rig(tmp_path), real_time_factor=0.0, lockstep_timeout_s=60.0
    )
    left = onlooker.collect(JointState, "follower_left/joint_states")
    onlooker.until(lambda: onlooker.clocks_ns, "/clock")
    commander = Commander(onlooker, RIG)
    until_known(onlooker.node, "sim_rig", onlooker.until)  # clients and publishers alike
    for k in range(35):
        at_ns = onlooker.clocks_ns[-1]
        if k == 20:
            onlooker.spin_for(0.3)
            assert onlooker.clocks_ns[-1] == at_ns, "it ran on without its command"
        commander.send(at_ns, waist_rad=min(0.02 * k, 0.3), gripper_rad=1.0)
        onlooker.until(lambda at=at_ns: onlooker.clocks_ns[-1] > at, "the next tick")
        assert onlooker.clocks_ns[-1] == at_ns + TICK_NS, "one command, one step"
    at_ns = onlooker.clocks_ns[-1]
    onlooker.until(lambda: left and stamp_ns(left[-1].header.stamp) == at_ns, "joint states")
    reached = dict(zip(left[-1].name, left[-1].position, strict=True))
    assert reached["waist"] == pytest.approx(0.3, abs=0.03)
    assert reached["gripper"] > 0.5 and reached["left_finger"] > 0.045
    commander.leave()
    onlooker.until(lambda: onlooker.clocks_ns[-1] > at_ns + 35 * TICK_NS, "free running without a commander")
    assert "lockstep: no command" not in onlooker.log("sim_rig")


def test_lockstep_goes_on_after_the_timeout(onlooker, tmp_path):
    onlooker.start(
        "vla_sim", "sim_rig", rig=blind_rig(tmp_path), real_time_factor=0.0, lockstep_timeout_s=0.02
    )
    Commander(onlooker, RIG)  # there, but silent
    seen = len(onlooker.clocks_ns)
    onlooker.until(lambda: "lockstep: no command on" in onlooker.log("sim_rig"), "the warning")
    onlooker.until(lambda: len(onlooker.clocks_ns) > seen + 10, "further ticks")
    assert "follower_left/commands/joint_group" in onlooker.log("sim_rig")


def test_reset_puts_the_world_back_while_time_goes_on(onlooker, tmp_path):
    onlooker.start("vla_sim", "sim_rig", rig=blind_rig(tmp_path), real_time_factor=1.0)
    onlooker.until(lambda: onlooker.status, "task_status")
    answer = onlooker.call(ResetWorld, "sim_rig/reset", ResetWorld.Request(task="insertion", seed=5))
    assert answer.success, answer.message
    onlooker.until(lambda: onlooker.status.task == "insertion", "the other task")
    assert onlooker.status.seed == 5 and list(onlooker.status.object_names) == ["peg", "socket"]
    for pose, wanted in zip(onlooker.status.object_poses, TASKS["insertion"].sample_poses(5), strict=True):
        p = pose.position
        assert (p.x, p.y, p.z) == pytest.approx(wanted[:3], abs=2e-3)
    answer = onlooker.call(ResetWorld, "sim_rig/reset", ResetWorld.Request(task="juggling", seed=0))
    assert not answer.success and "unknown task 'juggling'" in answer.message
    answer = onlooker.call(ResetWorld, "sim_rig/reset", ResetWorld.Request(seed=6))
    assert answer.success and answer.message == "insertion, seed 6"
    assert onlooker.clocks_ns == sorted(set(onlooker.clocks_ns)), "/clock went back or stood still"
    assert all(ns % TICK_NS == 0 for ns in onlooker.clocks_ns)


def test_other_message_types(onlooker, tmp_path):
    resolved = yaml.safe_load(RIG.to_yaml())
    resolved["sinks"]["left_arm"]["message"] = "trajectory_msgs/msg/JointTrajectory"
    resolved["sinks"]["left_gripper"]["message"] = "std_msgs/msg/Float64MultiArray"
    resolved["cameras"] = {
        "cam_high": resolved["cameras"]["cam_high"] | {"message": "compressed"},
        "cam_low": resolved["cameras"]["cam_low"] | {"encoding": "bgr8", "width": 320, "height": 240},
    }
    path = tmp_path / "variant.yaml"
    path.write_text(yaml.safe_dump(resolved))
    rig = load_rig(path)
    onlooker.start("vla_sim", "sim_rig", rig=path, real_time_factor=0.0, lockstep_timeout_s=60.0)
    high = onlooker.collect(CompressedImage, rig.cameras["cam_high"].topic)
    low = onlooker.collect(Image, rig.cameras["cam_low"].topic)
    left = onlooker.collect(JointState, "follower_left/joint_states")
    onlooker.until(lambda: onlooker.clocks_ns, "/clock")
    commander = Commander(onlooker, rig)

    def moved():
        commander.send(onlooker.clocks_ns[-1], waist_rad=0.09, gripper_rad=1.0)
        position = left[-1].position if left else [0.0] * 9
        return abs(position[0] - 0.09) < 0.01 and position[6] > 0.7

    onlooker.until(moved, "the left arm moved")
    onlooker.until(lambda: high and low, "images")
    assert to_rgb(high[-1]).shape == (480, 640, 3)
    assert (low[-1].encoding, low[-1].width, low[-1].height) == ("bgr8", 320, 240)
    for message in (high[-1], low[-1]):
        red = (to_rgb(message).astype(int) @ [1, -1, -1]) > 80
        assert red.sum() > 20, "the cube is red in RGB"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rig": "/no/such/rig.yaml"}, "rig file '/no/such/rig.yaml' does not exist"),
        ({"rig": RIG_FILE, "task": "juggling"}, "unknown task 'juggling', expected one of: transfer_cube"),
        ({"rig": RIG_FILE, "render": "splendid"}, "parameter 'render' is 'splendid'"),
        ({"rig": RIG_FILE.with_name("teleavatar.yaml")}, "the simulated ALOHA"),
        ({"rig": RIG_FILE.with_name("aloha.yaml")}, "rate_hz 60 must divide control_rate_hz 50"),
    ],
    ids=["no rig file", "task", "render", "other robot", "camera rate"],
)
def test_mistakes_end_in_one_line(values, message):
    done = subprocess.run(
        [executable("vla_sim", "sim_rig"), *parameters(**values)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_missing_opengl_library_ends_in_one_line():
    done = subprocess.run(
        [executable("vla_sim", "sim_rig")],
        env=os.environ | {"MUJOCO_GL": "no_such_platform"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 2
    assert "MUJOCO_GL=no_such_platform" in done.stderr and len(done.stderr.strip().splitlines()) == 1
