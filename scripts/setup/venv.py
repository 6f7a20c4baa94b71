"""Steps 2 to 4: the virtual environment, the pinned wheels in it, and the mend of what the ROS wheels export."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from scripts.setup import stamps
from scripts.setup.plan import Plan
from scripts.setup.progress import Progress, run_logged

PIP = "pip==26.3"  # pip 23.0, which comes with Python 3.10, does not find the solution of our pins


def make_venv(plan: Plan, progress: Progress) -> str:
    """Create .venv, or make it anew when it is for another Python, another place or another way of having ROS."""
    problem = venv_problem(plan)
    if problem is None:
        return "there"
    if plan.venv.exists():
        progress.note(f"making it anew: {problem}")
        shutil.rmtree(plan.venv)
    # Not sys.executable: when make runs inside the sourced environment that is the .venv's own.
    python = getattr(sys, "_base_executable", sys.executable)
    options = ["--system-site-packages"] if plan.ros_installed else []
    run_logged([python, "-m", "venv", *options, plan.venv], plan.logs / "venv.log", progress)
    return f"created with Python {sys.version.split()[0]}"


def venv_problem(plan: Plan) -> str | None:
    """Why the present .venv cannot be used, or None if it can."""
    config = plan.venv / "pyvenv.cfg"
    pip = plan.venv / "bin" / "pip"
    if not (config.is_file() and plan.python.exists() and pip.is_file()):
        return "it is missing or incomplete"
    settings = dict(line.split(" = ", 1) for line in config.read_text().splitlines() if " = " in line)
    wanted = ".".join(map(str, sys.version_info[:2]))
    if not settings.get("version", "").startswith(wanted + "."):
        return f"it has Python {settings.get('version')}, {wanted} is asked for"
    if (settings.get("include-system-site-packages") == "true") != plan.ros_installed:
        return (
            "ROS has been installed or sourced since" if plan.ros_installed else "no ROS is sourced any more"
        )
    if str(plan.venv) not in pip.read_text(errors="replace").splitlines()[0]:
        return "the workspace has moved"
    return None


def requirements_digest(plan: Plan) -> str:
    """SHA-256 of everything that decides what is installed in .venv."""
    version = (plan.venv / "pyvenv.cfg").read_text()
    return stamps.digest([version, PIP, stamps.digest_files([*plan.requirements, plan.constraints])])


def install_wheels(plan: Plan, progress: Progress) -> str:
    """`pip install` of the pinned requirements."""
    stamp, key = plan.venv / ".wheels.stamp", requirements_digest(plan)
    if stamps.is_fresh(stamp, key):
        return "up to date"
    pip = [plan.python, "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check"]
    run_logged([*pip, PIP], plan.logs / "pip.log", progress, summarise=_pip_line)
    files = [word for file in plan.requirements for word in ("-r", file)]
    run_logged(
        [*pip, *files, "-c", plan.constraints], plan.logs / "wheels.log", progress, summarise=_pip_line
    )
    stamps.write(stamp, key)
    return "installed " + ", ".join(file.name for file in plan.requirements)


def _pip_line(line: str) -> str | None:
    """What pip is at, without the paths and the "already satisfied" lines."""
    if line.startswith("Installing collected packages"):
        return "installing (pip is silent here)"
    words = line.split()
    return " ".join(words[:2]) if words[0] in ("Collecting", "Downloading", "Processing") else None


def mend_exports(plan: Plan, progress: Progress) -> str:
    """Point the CMake files of the ROS wheels at this machine's Python and NumPy (scripts/setup/mend.py)."""
    if plan.ros_installed:
        return "not needed: ROS is installed"
    stamp, key = plan.venv / ".mend.stamp", requirements_digest(plan)
    if stamps.is_fresh(stamp, key):
        return "up to date"
    log = plan.logs / "mend.log"
    run_logged([plan.python, Path(__file__).with_name("mend.py"), plan.venv / "share"], log, progress)
    stamps.write(stamp, key)
    return log.read_text().splitlines()[-1]


def venv_environment(plan: Plan) -> dict[str, str]:
    """The environment in which colcon runs: .venv first on PATH and, where ROS is in it, as the underlay."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
    env["VIRTUAL_ENV"] = str(plan.venv)
    env["PATH"] = os.pathsep.join([str(plan.venv / "bin"), env.get("PATH", os.defpath)])
    if not plan.ros_installed:
        env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(plan.venv)
    return env
