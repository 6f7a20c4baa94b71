"""A disk that remembers every system call of an episode being written, and can be cut off after any of them."""

import contextlib
import itertools
import os
import random
import subprocess
from collections import defaultdict
from pathlib import Path
from unittest import mock

import pytest

PAGE = 4096
_OF_NAMES = ("create", "rename", "unlink")
_CALLS = ("open", "pwrite", "ftruncate", "fdatasync", "fsync", "rename", "unlink")


class RecordedDisk:
    """Inside `with disk.recording():` what is done to files of `folder` is done, and noted in `calls` in order.

    A call is (name, arguments); files are told apart by a number each, for names change. `note` puts a mark of the
    test's own among them. Syncs are noted, but not done: the simulation decides what a cut of the power leaves.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.calls: list[tuple] = []
        self._file_of_fd: dict[int, int] = {}
        self._folders: set[int] = set()  # descriptors
        self._file_of_name: dict[Path, int] = {}

    def note(self, mark: str, value: int = 0) -> None:
        self.calls.append((mark, value))

    def adopt(self, path: Path) -> None:
        """A file that is there already: its content counts as written, and synced."""
        os.close(os.open(path, os.O_RDONLY))
        file = self._file_of_name[path]
        self.calls += [("write", file, 0, path.read_bytes()), ("sync", file), ("sync_folder",)]

    @contextlib.contextmanager
    def recording(self):
        with contextlib.ExitStack() as stack:
            for name in _CALLS:
                real, ours = getattr(os, name), getattr(self, f"_{name}")
                stack.enter_context(mock.patch.object(os, name, self._wrapped(real, ours)))
            yield

    @staticmethod
    def _wrapped(real, ours):
        return lambda *args, **options: ours(real, *args, **options)

    def _open(self, real, path, flags, *args, **options):
        fd = real(path, flags, *args, **options)
        name = Path(path) if isinstance(path, (str, Path)) else None
        self._file_of_fd.pop(fd, None)
        self._folders.discard(fd)
        if flags & os.O_DIRECTORY:
            self._folders.add(fd)
        elif name is not None and self.folder in name.parents:
            if name not in self._file_of_name:
                self._file_of_name[name] = len(self._file_of_name)
                self.calls.append(("create", self._file_of_name[name], name.relative_to(self.folder)))
            self._file_of_fd[fd] = self._file_of_name[name]
        return fd

    def _pwrite(self, real, fd, data, offset):
        if fd in self._file_of_fd:
            self.calls.append(("write", self._file_of_fd[fd], offset, bytes(data)))
        return real(fd, data, offset)

    def _ftruncate(self, real, fd, size):
        if fd in self._file_of_fd:
            self.calls.append(("truncate", self._file_of_fd[fd], size))
        return real(fd, size)

    def _fdatasync(self, real, fd):
        if fd in self._file_of_fd:
            self.calls.append(("sync", self._file_of_fd[fd]))

    def _fsync(self, real, fd):
        if fd in self._folders:
            self.calls.append(("sync_folder",))
        self._fdatasync(real, fd)

    def _rename(self, real, source, target):
        real(source, target)
        source, target = Path(source), Path(target)
        self._file_of_name[target] = self._file_of_name.pop(source)
        self.calls.append(("rename", source.relative_to(self.folder), target.relative_to(self.folder)))

    def _unlink(self, real, path, **options):
        real(path, **options)
        if self._file_of_name.pop(Path(path), None) is not None:
            self.calls.append(("unlink", Path(path).relative_to(self.folder)))

    def after_kill(self, count: int, folder: Path, torn: float = 0.0) -> None:
        """Make in `folder` what there is after `count` calls, and the `torn` part of the next one if it writes."""
        calls = self.calls[:count]
        if torn and count < len(self.calls) and self.calls[count][0] == "write":
            _, file, offset, data = self.calls[count]
            calls = [*calls, ("write", file, offset, data[: int(len(data) * torn)])]
        _lay_out(calls, folder)

    def after_power_cut(self, count: int, folder: Path, rng: random.Random) -> None:
        """The same, but of what was not synced before only some pages of some writes have reached the disk.

        Names that were made, changed or removed since a folder was synced are lost from some moment on.
        """
        synced: dict[int, int] = defaultdict(int)  # file -> calls before this one are on the disk
        for at, call in enumerate(self.calls[:count]):
            if call[0] == "sync":
                synced[call[1]] = at
        names = [at for at, call in enumerate(self.calls[:count]) if call[0] in _OF_NAMES]
        known = max((at for at, call in enumerate(self.calls[:count]) if call[0] == "sync_folder"), default=0)
        names_until = rng.choice([*[at for at in names if at > known], count])
        share = rng.random()
        calls = []
        for at, call in enumerate(self.calls[:count]):
            if call[0] in _OF_NAMES and at >= names_until:
                continue
            if call[0] == "write" and at >= synced[call[1]]:
                calls += [page for page in _pages(call) if rng.random() < share]
            elif call[0] != "truncate" or at < synced[call[1]] or rng.random() < share:
                calls.append(call)
        _lay_out(calls, folder)


def _pages(call: tuple) -> list[tuple]:
    """One write as one for each page of the file."""
    _, file, offset, data = call
    cuts = [0, *range(PAGE - offset % PAGE, len(data), PAGE), len(data)]
    return [("write", file, offset + a, data[a:b]) for a, b in itertools.pairwise(cuts) if b > a]


def _lay_out(calls: list[tuple], folder: Path) -> None:
    contents: dict[int, bytearray] = defaultdict(bytearray)
    names: dict[Path, int] = {}
    for name, *args in calls:
        if name == "create":
            names[args[1]] = args[0]
        elif name == "write":
            file, offset, data = args
            content = contents[file]
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        elif name == "truncate":
            content = contents[args[0]]
            content.extend(bytes(max(0, args[1] - len(content))))
            del content[args[1] :]
        elif name == "rename":
            names[args[1]] = names.pop(args[0])
        elif name == "unlink":
            names.pop(args[0])
    for name, file in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents[file])


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int):
    """A file system of its own in `folder` that is soon full. Skips the test where nothing may be mounted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
