"""Step 5: `colcon build --symlink-install` of the workspace, when something that it reads has changed."""

from __future__ import annotations

import shutil

from scripts.setup import stamps
from scripts.setup.plan import Plan
from scripts.setup.progress import Progress, run_logged
from scripts.setup.venv import requirements_digest, venv_environment

# Not .venv/bin/colcon: with an installed ROS that would be the system's, and the executables it
# makes would run under the system's Python, without the packages in .venv.
COLCON = "import sys; from colcon_core.command import main; sys.exit(main())"


def build_workspace(plan: Plan, progress: Progress) -> str:
    """Build all packages; from nothing when the environment they were built in is another one."""
    environment_key, sources_key = requirements_digest(plan), stamps.build_digest(plan.root)
    environment_stamp = plan.root / "build" / ".environment.stamp"
    sources_stamp = plan.root / "install" / ".sources.stamp"
    if stamps.is_fresh(environment_stamp, environment_key) and stamps.is_fresh(sources_stamp, sources_key):
        return "up to date"
    if environment_stamp.is_file() and not stamps.is_fresh(environment_stamp, environment_key):
        for folder in ("build", "install"):
            shutil.rmtree(plan.root / folder, ignore_errors=True)
    command = [
        plan.python,
        "-c",
        COLCON,
        "build",
        "--symlink-install",
        "--event-handlers",
        "console_cohesion-",
    ]
    run_logged(
        [*command, "--base-paths", plan.root],
        plan.logs / "build.log",
        progress,
        env=venv_environment(plan),
        cwd=plan.root,
        summarise=ColconLines(),
    )
    stamps.write(environment_stamp, environment_key)
    stamps.write(sources_stamp, sources_key)
    return f"{len(list(plan.root.glob('*/package.xml')))} packages built"


class ColconLines:
    """Turns colcon's lines into what is being built right now."""

    def __init__(self) -> None:
        self._building: list[str] = []
        self._done = 0

    def __call__(self, line: str) -> str | None:
        word, _, rest = line.partition(" ")
        package = rest.split()[1] if word in ("Starting", "Finished") and len(rest.split()) > 1 else None
        if package is None:
            return None
        if word == "Starting":
            self._building.append(package)
        elif package in self._building:
            self._building.remove(package)
            self._done += 1
        return f"{self._done} done, building {', '.join(self._building)}"
