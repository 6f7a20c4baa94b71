"""Which software wrote a file."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def software() -> str:
    """Package version, and git describe where the package runs from a checkout: "vla_recorder 0.1.0 (c3dc534)"."""
    try:
        package = f"vla_recorder {version('vla_recorder')}"
    except PackageNotFoundError:
        package = "vla_recorder"
    command = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty", "--tags"]
    try:
        described = subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return package
    return f"{package} ({described})"
