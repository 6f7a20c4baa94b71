"""Stamps: a step that succeeded leaves a hash of what it was made from, and is skipped while that is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

# With --symlink-install the build reads these; every other edit (a module, a rig file's text) applies at once.
BUILD_INPUTS = ("package.xml", "setup.py", "setup.cfg", "CMakeLists.txt", "*.msg", "*.srv", "*.action")
# Here a new or a removed file matters, not its text.
LINKED_FOLDERS = ("launch", "config")


def digest(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of a sequence of strings, each kept apart from the next."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files."""
    return digest(item for path in paths for item in (path.name, path.read_bytes()))


def build_digest(root: Path) -> str:
    """SHA-256 of everything that a `colcon build --symlink-install` of the workspace depends on."""
    packages = sorted(path.parent for path in root.glob("*/package.xml"))
    inputs = [
        file for package in packages for pattern in BUILD_INPUTS for file in sorted(package.rglob(pattern))
    ]
    parts: list[str | bytes] = []
    for file in inputs:
        parts += [str(file.relative_to(root)), file.read_bytes()]
    for folder in LINKED_FOLDERS:
        parts += [
            str(file.relative_to(root)) for file in sorted((root / folder).rglob("*")) if file.is_file()
        ]
    return digest(parts)


def is_fresh(stamp: Path, key: str) -> bool:
    """Whether the step that wrote this stamp ran on exactly this input."""
    return stamp.is_file() and stamp.read_text() == key


def write(stamp: Path, key: str) -> None:
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)
