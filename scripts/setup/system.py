"""Step 1: what only the operating system can provide. Tried first, installed only where it is missing."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from scripts.setup.plan import Plan, SetupError
from scripts.setup.progress import Progress, run_logged

EGL_VENDORS = (Path("/usr/share/glvnd/egl_vendor.d"), Path("/etc/glvnd/egl_vendor.d"))


def missing_packages() -> list[str]:
    """Debian and Ubuntu names of the packages whose contents cannot be found here."""
    missing = []
    if not _loads("libEGL.so.1"):
        missing.append("libegl1")
    if not _loads("libGL.so.1"):
        missing.append("libgl1")
    if not any(folder.is_dir() and any(folder.iterdir()) for folder in EGL_VENDORS):
        missing += ["libegl-mesa0", "libgl1-mesa-dri"]  # headless rendering for the simulated rig
    if not all(shutil.which(tool) for tool in ("gcc", "g++")):
        missing.append("build-essential")
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        missing.append(_for_this_python("venv"))
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(_for_this_python("dev"))  # message packages compile an extension module
    return missing


def install_missing(plan: Plan, progress: Progress) -> str:
    """Install what is missing when that is allowed; otherwise raise SetupError with the command to run."""
    missing = missing_packages()
    if not missing:
        return "all there"
    command = "apt-get install -y --no-install-recommends " + " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(
            f"missing from this system: {', '.join(missing)} (Debian and Ubuntu names).\n"
            f"Run: sudo {command}\nand then the same make command again."
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = plan.logs / "system.log"
    run_logged(["apt-get", "update", "-q"], log, progress, env)
    run_logged(command.split(), log, progress, env)
    still = missing_packages()
    if still:
        raise SetupError(
            f"still missing after `{command}`: {', '.join(still)}.\n"
            f"If {sys.executable} is not the system's own Python, choose another: make PYTHON=/usr/bin/python3 ..."
        )
    return "installed " + ", ".join(missing)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _for_this_python(part: str) -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}-{part}"
