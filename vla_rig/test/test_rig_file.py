"""Rig files: what ships loads; every mistake is told with file, line and key."""

import shutil
from pathlib import Path

import pytest

from vla_rig.rig_file import RigError, load_rig, rig_from_yaml

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = sorted(p.stem for p in CONFIG.glob("*.yaml"))
SMALL = """\
name: small
control_rate_hz: 50
max_skew_s: 0.05
cameras:
  eye: {topic: eye/image, width: 64, height: 48, rate_hz: 30, max_age_s: 0.1}
joint_sources:
  arm: {topic: arm/joint_states, joints: [a, b], rate_hz: 100, max_age_s: 0.1}
ranges:
  grip: [0.0, 1.0]
state:
  - {name: a, source: arm, joint: a, unit: rad}
  - {name: b, source: arm, joint: b, unit: rad, range: grip}
action:
  - {name: a, sink: arm, joint: a, unit: rad, min: -1, max: 1, max_velocity: 2, feedback: {source: arm, joint: a}}
  - {name: b, sink: arm, joint: b, unit: rad, min: -1, max: 1, max_velocity: 2, feedback: {source: arm, joint: b}}
sinks:
  arm: {topic: arm/commands, message: sensor_msgs/msg/JointState, joints: [a, b]}
rest_pose: {a: 0.0, b: 0.0}
"""


def write(folder: Path, text: str, name: str = "my.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_rigs_load_and_survive_embedding(name):
    rig = load_rig(CONFIG / f"{name}.yaml")
    assert rig_from_yaml(rig.to_yaml()) == rig
    assert rig.name == name


def test_dimensions_of_the_shipped_rigs():
    assert {"aloha", "aloha_sim", "teleavatar"} <= set(SHIPPED)
    sizes = {n: (len(r.state), len(r.action)) for n in SHIPPED for r in [load_rig(CONFIG / f"{n}.yaml")]}
    assert sizes["aloha"] == sizes["aloha_sim"] == (14, 14) and sizes["teleavatar"] == (14, 16)


def test_extends_merges_key_by_key():
    base, over = load_rig(CONFIG / "aloha.yaml"), load_rig(CONFIG / "aloha_sim.yaml")
    assert over.cameras["cam_low"].topic == base.cameras["cam_low"].topic
    assert (base.cameras["cam_low"].rate_hz, over.cameras["cam_low"].rate_hz) == (60, 25)
    assert over.state == base.state


def test_limits_of_a_recording_are_optional(tmp_path):
    limits = load_rig(write(tmp_path, SMALL)).recording
    assert limits == load_rig(CONFIG / "aloha.yaml").recording, "aloha.yaml says what is left out elsewhere"
    mine = load_rig(write(tmp_path, SMALL + "recording: {gaps: {check: 0.2, bad: 0.3}}\n")).recording
    assert (mine.gaps.check, mine.gaps.bad) == (0.2, 0.3) and mine.stale == limits.stale


def test_an_installed_name_and_an_unknown_one(tmp_path, monkeypatch):
    prefix = tmp_path / "prefix"
    index = prefix / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "vla_policy_node").touch()
    shutil.copytree(CONFIG, prefix / "share/vla_policy_node/config")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    assert load_rig("aloha").name == "aloha"
    with pytest.raises(RigError, match=r"no rig named 'alhoa'.*aloha, .*teleavatar"):
        load_rig("alhoa")


MISTAKES = {  # name: (text, its replacement, line, key, what is said)
    "unknown key": ("width: 64,", "width: 64, widht: 3,", 5, "cameras.eye.widht", "not permitted"),
    "wrong type": ("width: 64", "width: wide", 5, "cameras.eye.width", "integer.*'wide'"),
    "missing key": ("max_skew_s: 0.05\n", "", None, "max_skew_s", "required"),
    "negative rate": ("control_rate_hz: 50", "control_rate_hz: -50", 2, "control_rate_hz", "greater than 0"),
    "NaN": ("control_rate_hz: 50", "control_rate_hz: .nan", 2, "control_rate_hz", "than 0|finite"),
    "absolute nonsense topic": ("eye/image", "'eye image'", 5, "cameras.eye.topic", "pattern"),
    "unknown source": (
        "source: arm, joint: a, unit",
        "source: leg, joint: a, unit",
        11,
        "state.a",
        "source 'leg'",
    ),
    "missing joint": ("joint: b, unit: rad, range", "joint: z, unit: rad, range", 12, "state.b", "joint 'z'"),
    "unknown range": ("range: grip", "range: grap", 12, "state.b", "range 'grap'"),
    "flat range": ("[0.0, 1.0]", "[1.0, 1.0]", 9, "ranges.grip", "equal"),
    "unknown sink": ("sink: arm, joint: b", "sink: leg, joint: b", 15, "action.b", "sink 'leg'"),
    "joint the sink lacks": ("sink: arm, joint: b", "sink: arm, joint: z", 15, "action.b", "joint 'z'"),
    "sink joint without action": (
        "JointState, joints: [a, b]",
        "JointState, joints: [a, b, c]",
        17,
        "sinks.arm",
        "'c'",
    ),
    "unknown message": (
        "sensor_msgs/msg/JointState",
        "sensor_msgs/msg/Joy",
        17,
        "sinks.arm.message",
        "JointTraj",
    ),
    "duplicate name": ("name: b, sink", "name: a, sink", 14, "action", "'a' occurs twice"),
    "duplicate key": ("  grip:", "  grip: [0.0, 2.0]\n  grip:", 10, "grip", "occurs twice"),
    "bounds the wrong way": (
        "joint: b, unit: rad, min: -1",
        "joint: b, unit: rad, min: 3",
        15,
        "action.1",
        "below max",
    ),
    "position nobody measures": (
        ", feedback: {source: arm, joint: b}",
        "",
        15,
        "action.1",
        "needs 'feedback'",
    ),
    "copied feedback": (
        "feedback: {source: arm, joint: b",
        "feedback: {source: arm, joint: a",
        15,
        "action.b",
        "as 'a'",
    ),
    "rest pose outside": ("{a: 0.0,", "{a: 1.5,", 18, "rest_pose.a", r"outside \[-1.0, 1.0\]"),
    "rest pose incomplete": (", b: 0.0}", "}", 18, "rest_pose", "'b' is missing"),
    "limits the wrong way": (
        "rest_pose:",
        "recording: {stale: {check: 0.2, bad: 0.1}}\nrest_pose:",
        18,
        "recording.stale",
        "must not be above bad",
    ),
    "a share above one": (
        "rest_pose:",
        "recording: {gaps: {check: 0.2, bad: 20}}\nrest_pose:",
        18,
        "recording.gaps.bad",
        "less than or equal to 1",
    ),
    "age below period": ("rate_hz: 30", "rate_hz: 5", 5, "cameras.eye.max_age_s", "less than the period"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_file_line_key_and_expectation(tmp_path, mistake):
    text, replacement, line, key, said = MISTAKES[mistake]
    assert SMALL.count(text) == 1
    path = write(tmp_path, SMALL.replace(text, replacement))
    place = f"{path}:{line}: " if line else f"{path}: "
    with pytest.raises(RigError, match=said) as error:
        load_rig(path)
    lines = str(error.value).splitlines()
    assert any(at.startswith(place) and key in at for at in lines), error.value


def test_two_sinks_on_one_topic(tmp_path):
    text = (
        load_rig(CONFIG / "aloha.yaml")
        .to_yaml()
        .replace("topic: follower_right/commands/joint_group", "topic: follower_left/commands/joint_group")
    )
    with pytest.raises(RigError, match=r"sinks.right_arm: has the same topic as 'left_arm'"):
        load_rig(write(tmp_path, text))


def test_a_mistake_in_the_base_names_the_base(tmp_path):
    base = write(tmp_path, SMALL.replace("width: 64", "width: 0"), "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nname: child\n")
    with pytest.raises(RigError, match=f"^{base}:5: cameras.eye.width"):
        load_rig(path)


def test_extends_circle_and_missing_base(tmp_path):
    write(tmp_path, "name: x\nextends: my.yaml\n", "other.yaml")
    with pytest.raises(RigError, match=r"other.yaml:2: extends: .*circle"):
        load_rig(write(tmp_path, "extends: other.yaml\n"))
    with pytest.raises(RigError, match=r"gone.yaml' cannot be read: No such file.*my.yaml:2"):
        load_rig(write(tmp_path, "name: x\nextends: gone.yaml\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3\n", r"my.yaml:\d: not valid YAML"),
        ("- just\n- a list\n", "expected a mapping.*got list"),
        ("", "expected a mapping.*got NoneType"),
    ],
)
def test_files_that_are_no_rig(tmp_path, text, said):
    with pytest.raises(RigError, match=said):
        load_rig(write(tmp_path, text))


def test_unreadable_files(tmp_path):
    with pytest.raises(RigError, match=r"nowhere.yaml' does not exist"):
        load_rig(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\xff")
    with pytest.raises(RigError, match="not UTF-8"):
        load_rig(tmp_path / "latin.yaml")
