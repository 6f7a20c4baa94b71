"""`make bench`: run every benchmark, print a table, write build/bench.json.

A benchmark module has `run() -> list[Row]`. Names on the command line choose among them.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.row import Row

MODULES = ["ensembling", "images", "preprocessing", "model_inference", "frame_to_command", "recording"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which to run (default: all): {', '.join(MODULES)}")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="where the rows go")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(MODULES))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(MODULES)}")
    rows: list[Row] = []
    for name in args.names or MODULES:
        start = time.monotonic()
        print(f"{name} ...", flush=True)
        rows += import_module(f"bench.{name}").run()
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    _print(rows)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    print(f"{len(rows)} rows written to {args.output}")
    return 0


def _print(rows: list[Row]) -> None:
    table = Table(
        title=f"{platform.machine()}, Python {platform.python_version()}; ratio = baseline / ours",
        title_style="",
    )
    for column in ("name", "ours", "baseline", "ratio", "unit", "goal"):
        table.add_column(column, justify="left" if column in ("name", "unit", "goal") else "right")
    for r in rows:
        table.add_row(r.name, f"{r.ours:.4g}", f"{r.baseline:.4g}", f"{r.ratio:.2f}", r.unit, r.goal)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    sys.exit(main())
