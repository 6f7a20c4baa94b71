"""Options and the processes that follow from them."""

import fcntl
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from vla_bringup import cli, transports
from vla_bringup.options import OPTIONS, OptionError, parse_options
from vla_bringup.processes import rig_processes, sim_rig_file
from vla_bringup.shm import remove_leftovers


def processes(rig, *words, environ=None):
    return {p.name: p for p in rig_processes(parse_options(rig, words), environ or {})}


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    return str(folder)


def test_a_checkpoint_starts_the_policy_node_alone(checkpoint):
    started = processes("aloha", f"checkpoint:={checkpoint}", "instruction:=pass the cube")
    assert list(started) == ["policy"]
    policy = started["policy"]
    assert (policy.package, policy.executable) == ("vla_policy_node", "policy")
    assert policy.parameters == {
        "rig": "aloha",
        "checkpoint": checkpoint,
        "start": False,
        "autostart": True,
        "instruction": "pass the cube",
    }


def test_simulated_demonstrations():
    started = processes(
        "aloha",
        "sim:=true",
        "teleop:=true",
        "demonstrator:=true",
        "recorder:=true",
        "episodes:=data",
        "seed:=7",
    )
    assert list(started) == ["sim_rig", "demonstrator", "teleop", "recorder"]
    assert all(p.parameters["rig"] == "aloha_sim" and p.parameters["use_sim_time"] for p in started.values())
    assert started["sim_rig"].parameters["seed"] == 7
    assert started["teleop"].parameters["lockstep"] is True
    assert started["recorder"].parameters["folder"] == "data"
    assert started["recorder"].parameters["sim"] is True


def test_a_simulated_policy_keeps_in_step_with_the_world(checkpoint):
    words = ["aloha", f"checkpoint:={checkpoint}", "sim:=true"]
    assert processes(*words)["policy"].parameters["lockstep_every"] == 1
    assert processes(*words, "lockstep_every:=5")["policy"].parameters["lockstep_every"] == 5
    assert processes(*words, "lockstep_every:=0")["policy"].parameters["lockstep_every"] == 0


def test_the_real_rig_keeps_its_file_and_wall_time():
    teleop = processes("aloha", "teleop:=true")["teleop"]
    assert teleop.parameters == {"rig": "aloha"}
    assert (
        processes("aloha", "teleop:=true", "use_sim_time:=true")["teleop"].parameters["use_sim_time"] is True
    )


def test_the_simulated_form_of_a_rig_file():
    assert sim_rig_file("aloha") == "aloha_sim"
    assert sim_rig_file("aloha_sim") == "aloha_sim"
    assert sim_rig_file("my/rig.yaml") == "my/rig_sim.yaml"


@pytest.mark.parametrize("instruction", ["yes", "1.5", 'say "hello": {now}', "取 # cube", "a\\b\tc"])
def test_text_reaches_a_node_as_text(instruction):
    recorder = processes("aloha", "recorder:=true", f"instruction:={instruction}")["recorder"]
    words = [word for word in recorder.ros_arguments() if word.startswith("instruction:=")]
    assert yaml.safe_load(words[0].removeprefix("instruction:=")) == instruction


def test_namespace_parameters_file_and_log_level_reach_every_process(tmp_path):
    file = tmp_path / "more.yaml"
    file.write_text("{}")
    started = processes(
        "aloha",
        "sim:=true",
        "teleop:=true",
        "namespace:=/left_cell",
        f"params_file:={file}",
        "log_level:=debug",
    )
    for process in started.values():
        line = shlex.join(process.ros_arguments())
        assert "-r __ns:=/left_cell" in line
        assert f"--params-file {file}" in line
        assert "--log-level debug" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sim=true"], "name:=value"),
        (["speed:=2"], "no option 'speed'; expected one of: rig, checkpoint"),
        (["sim:=yes"], "sim:=yes: expected one of: true, false"),
        (["sim:=true", "sim:=true"], "'sim' is given twice"),
        (["seed:=-1", "sim:=true"], "seed:=-1: expected a whole number"),
        (["task:=insertion"], "add sim:=true"),
        (["lockstep_every:=often", "sim:=true"], "lockstep_every:=often: expected a whole number"),
        (["demonstrator:=true"], "add sim:=true"),
        (["checkpoint:=/nowhere"], "checkpoint:=/nowhere: expected a checkpoint folder"),
        (["params_file:=/nowhere"], "params_file:=/nowhere: expected a YAML file"),
        (["start:=true", "sim:=true"], "add checkpoint:=FOLDER"),
        (["episodes:=here", "sim:=true"], "add recorder:=true"),
        (["instruction:=go", "sim:=true"], "add checkpoint:=FOLDER or recorder:=true"),
        ([], "nothing to start for rig 'aloha': give checkpoint:=FOLDER"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_was_expected(words, told, capsys):
    assert cli.main(["list", "aloha", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_two_drivers_of_the_arms_are_refused(checkpoint):
    with pytest.raises(OptionError, match="both command the arms"):
        processes("aloha", f"checkpoint:={checkpoint}", "teleop:=true")


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["up", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert [o.name for o in OPTIONS if o.name not in text] == []


def test_images_go_through_shared_memory_unless_asked_otherwise():
    teleop = processes("aloha", "teleop:=true", environ={})["teleop"]
    profile = Path(teleop.environment[transports.PROFILE])
    assert "<segment_size>16777216</segment_size>" in profile.read_text()
    asked = processes("aloha", "teleop:=true", "transport:=large_data", environ=dict(teleop.environment))
    assert "LARGE_DATA" in Path(asked["teleop"].environment[transports.PROFILE]).read_text()


def test_the_users_own_transports_stay():
    own = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    assert processes("aloha", "teleop:=true", environ=own)["teleop"].environment == {}
    assert processes("teleavatar", "recorder:=true", environ=own)["recorder"].environment == {}


def test_1080p_frames_get_a_segment_that_holds_them():
    recorder = processes("teleavatar", "recorder:=true", environ={})["recorder"]
    assert "67108864" in Path(recorder.environment[transports.PROFILE]).read_text()


def test_segments_of_dead_processes_are_removed_and_live_ones_are_not(tmp_path):
    for name in ("fastrtps_dead", "fastrtps_live", "unrelated"):
        (tmp_path / name).write_bytes(b"segment")
        (tmp_path / f"{name}_el").touch()
    with (tmp_path / "fastrtps_live_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_leftovers(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "fastrtps_live",
        "fastrtps_live_el",
        "unrelated",
        "unrelated_el",
    ]


def test_run_hands_over_to_the_node_with_its_own_arguments():
    done = subprocess.run(["vla", "run", "vla_recorder", "record", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Record demonstrations" in done.stdout


def test_run_says_what_there_is_instead(capsys):
    assert cli.main(["run", "vla_recorder", "rekord"]) == 2
    assert "no executable 'rekord' (there are: episode, record)" in capsys.readouterr().err
    assert cli.main(["run", "vla_nothing", "x"]) == 2
    assert "package 'vla_nothing' is not there" in capsys.readouterr().err
