"""`check` against a driver process, right and wrong."""

import sys
from pathlib import Path

import pytest
from support.processes import python_module

# Asks for so little of its driver that a busy machine can give it.
RIG = """\
name: small
control_rate_hz: 10
max_skew_s: 5.0
cameras:
  left_eye: {topic: left/image, width: 64, height: 48, rate_hz: 1, max_age_s: 5.0}
  right_eye: {topic: right/image, width: 64, height: 48, rate_hz: 1, max_age_s: 5.0}
joint_sources:
  arm: {topic: arm/joint_states, joints: [a, b], rate_hz: 1, max_age_s: 5.0}
state:
  - {name: a, source: arm, joint: a, unit: rad}
action:
  - {name: a, sink: arm, joint: a, unit: rad, min: -1, max: 1, max_velocity: 2, feedback: {source: arm, joint: a}}
sinks:
  arm: {topic: arm/commands, message: sensor_msgs/msg/JointState, joints: [a]}
rest_pose: {a: 0.0}
"""
DRIVER = str(Path(__file__).with_name("rig_driver.py"))


@pytest.fixture
def check(spawn, tmp_path):
    rig = tmp_path / "small.yaml"
    rig.write_text(RIG)

    def run(*wrong: str) -> tuple[int, str]:
        spawn([sys.executable, "-u", DRIVER, str(rig), *wrong]).wait_for("driving")
        process = spawn(python_module("vla_rig.check", "--rig", str(rig), "--seconds", "2"), COLUMNS="160")
        return process.wait(), process.text

    return run


def test_a_right_rig_is_right(check):
    code, text = check()
    assert code == 0, text
    assert "The rig is as its file says." in text and "64x48 rgb8" in text and "2 of 2 joints" in text


def test_each_fault_names_its_topic_and_what_was_expected(check):
    code, text = check("small=left_eye", "bgr=left_eye", "silent=right_eye", "short=arm", "deaf=arm")
    assert code == 1
    for line in (
        "/left/image (left_eye): 64x24, expected 64x48",
        "/left/image (left_eye): encoding bgr8, expected rgb8",
        "/right/image (right_eye): no message received",
        "/arm/joint_states (arm): joints missing: a; found b",
        "/arm/commands (arm): nobody listens",
    ):
        assert line in text, text


def test_an_empty_graph_and_a_bad_rig_file(spawn, tmp_path):
    rig = tmp_path / "small.yaml"
    rig.write_text(RIG)
    process = spawn(python_module("vla_rig.check", "--rig", str(rig), "--seconds", "1"))
    assert process.wait() == 1
    assert "/left/image (left_eye): nobody publishes" in process.text
    process = spawn(python_module("vla_rig.check", "--rig", "/nowhere.yaml"))
    assert process.wait() == 2
    assert process.text == "check: rig file '/nowhere.yaml' does not exist\n"
