"""`episode validate`."""

from __future__ import annotations

import argparse

from vla_recorder.episode.validate import problems
from vla_recorder.tools.command import DONE, FAILED, Command, add_files
from vla_recorder.tools.files import find


def _run(options: argparse.Namespace) -> int:
    code = DONE
    for path in find(options.files):
        found = problems(path)
        for problem in found:
            print(problem if problem.startswith(str(path)) else f"{path}: {problem}", flush=True)
            code = FAILED
        if not found:
            print(f"{path}: valid", flush=True)
    return code


COMMAND = Command(
    "validate",
    "list what is wrong with each file: layout, lengths, numbers, stamps",
    add_files,
    _run,
    """
  episode validate episodes/ && echo ready to train
""",
)
