"""Disks that fill up, refuse or vanish under the writer: what was recorded before is whole."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from recorder_disk import remount, small_disk
from recorder_episodes import CAMERAS, header, row

from vla_recorder.episode import disk
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import recover
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter

FORMS = ("raw", "jpeg")
MIB = 1024


def small(form="raw"):
    return header(24, 40, image_form=form)


def check(path, head, rows, label="none"):
    """The file is valid, and its first `rows` rows are those that were appended."""
    assert problems(path, every_frame=True) == []
    with EpisodeReader(path) as episode:
        assert len(episode) >= rows and episode.label == label
        for t in range(len(episode)):
            expected = row(t, head)
            np.testing.assert_array_equal(episode.action[t], expected.action)
            for camera in CAMERAS:
                error = np.abs(episode.images(camera)[t].astype(int) - expected.images[camera]).max()
                assert error <= (0 if head.image_form == "raw" else 4)


def open_hdf5_files() -> int:
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def fill(writer, head, until=5000):
    """Append until the disk refuses; what it said. Every fifth row is flushed."""
    with pytest.raises(EpisodeError) as refusal:
        for t in range(writer.rows, until):
            writer.append(row(t, head))
            if t % 5 == 0:
                writer.flush()
    return str(refusal.value)


def take_all_space(folder):
    with (
        open(folder / "ballast", "wb", buffering=0) as ballast,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            ballast.write(bytes(1 << 16))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size_kib", [9 * MIB, 9 * MIB + 301, 10 * MIB + 77, 12 * MIB + 1])
def test_a_full_disk_costs_no_row_that_was_appended(tmp_path, form, size_kib):
    head = small(form)
    with small_disk(tmp_path / "disk", size_kib) as folder:
        writer = EpisodeWriter(folder, head)
        assert "cannot write row" in fill(writer, head) and not writer.failed
        path = writer.close("the disk is full", "success")
        assert writer.wait_synced(60.0)
        check(path, head, writer.rows, "success")
        assert [each.name for each in folder.iterdir()] == ["episode_0.hdf5"] and writer.rows > 5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 7, 18])
def test_a_disk_that_others_fill_costs_no_row_either(tmp_path, form, rows):
    head = small(form)
    with small_disk(tmp_path / "disk", 80 * MIB) as folder:
        writer = EpisodeWriter(folder, head)
        for t in range(rows):
            writer.append(row(t, head))
        take_all_space(folder)
        fill(writer, head)
        check(writer.close("the disk is full"), head, writer.rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size_kib", [8, 333, 801, 1777])
def test_where_space_cannot_be_claimed_flushed_rows_survive_a_full_disk(tmp_path, form, size_kib):
    """As on a file system without fallocate: the disk refuses in the middle of something."""
    head, open_before = small(form), open_hdf5_files()
    with (
        small_disk(tmp_path / "disk", size_kib) as folder,
        mock.patch.object(disk, "allocate", lambda *_: False),
    ):
        try:
            writer = EpisodeWriter(folder, head)
        except EpisodeError as error:
            assert "cannot write episodes here" in str(error) and size_kib == 8
            assert not list(folder.iterdir())
            assert open_hdf5_files() == open_before, "the process would crash at its end"
            return
        assert "No space left" in fill(writer, head)
        flushed = writer.flushed_rows if writer.failed else writer.rows
        try:
            path = writer.close("the disk is full")
        except EpisodeError as error:
            assert f"its first {writer.flushed_rows} rows are there" in str(error)
            remount(folder, "size=60m")
            path = recover(writer.path).path
        assert flushed > 0
        check(path, head, flushed)


@pytest.mark.parametrize("form", FORMS)
def test_a_disk_that_turns_read_only_keeps_the_flushed_rows(tmp_path, form):
    head = small(form)
    with small_disk(tmp_path / "disk", 80 * MIB) as folder:
        writer = EpisodeWriter(folder, head)
        for t in range(8):
            writer.append(row(t, head))
        writer.flush()
        path = writer.path
        # a remount is refused while files are open for writing: what a failing disk does by itself
        with mock.patch.object(os, "pwrite", side_effect=OSError(errno.EROFS, "Read-only file system")):
            assert "Read-only file system" in fill(writer, head)
            with pytest.raises(
                EpisodeError, match="its first 8 rows are there: see `episode recover --help`"
            ):
                writer.close("operator")
        remount(folder, "ro")
        with pytest.raises(EpisodeError, match="Read-only file system"):
            recover(path)
        with EpisodeReader(path) as episode:
            assert len(episode) == 8
        with pytest.raises(EpisodeError, match=r"cannot write episodes here.*Read-only"):
            EpisodeWriter(folder, head)
        remount(folder, "rw")
        check(recover(path).path, head, 8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["folder", "file", "moved"])
def test_a_file_that_is_removed_while_it_is_written_is_saved_again(tmp_path, form, what):
    head, folder = small(form), tmp_path / "a" / "b"
    writer = EpisodeWriter(folder, head)
    for t in range(30):
        if t == 10:
            assert writer.trouble == ""
            if what == "file":
                writer.path.unlink()
            elif what == "folder":
                shutil.rmtree(tmp_path / "a")
            else:
                (tmp_path / "a").rename(tmp_path / "elsewhere")
            assert (writer.trouble != "") == (what != "moved")
        writer.append(row(t, head))
    path = writer.close("operator", "failure")
    assert writer.wait_synced(60.0) and path == folder / "episode_0.hdf5"
    check(path, head, 30, "failure")


UNPRIVILEGED = """
import os, sys
folder, tests, form = sys.argv[1:]
sys.path.insert(0, tests)
from recorder_episodes import row
from test_episode_faults import EpisodeError, EpisodeWriter, small
head = small(form)
os.setuid(65534)
writer = EpisodeWriter(folder, head)
for t in range(20):
    writer.append(row(t, head))
    if t == 9:
        os.chmod(folder, 0o555)
try:
    writer.close("operator", "success")
except EpisodeError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_turns_read_only_leaves_the_whole_episode_to_recover(tmp_path_factory, form):
    head, folder = small(form), Path("/tmp") / f"read-only-{os.getpid()}-{form}"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    try:
        args = [sys.executable, "-c", UNPRIVILEGED, str(folder), str(Path(__file__).parent), form]
        done = subprocess.run(args, capture_output=True, text=True, timeout=60)
        assert "is complete but cannot be renamed" in done.stdout and not done.stderr, done
        folder.chmod(0o755)
        found = recover(folder / "episode_0.hdf5.partial")
        assert found.rows == 20 and found.path == folder / "episode_0.hdf5"
        check(found.path, head, 20, "success")
        with EpisodeReader(found.path) as episode:
            assert episode.end_reason == "operator"
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_disk_that_loses_what_it_took_is_reported(tmp_path):
    head = small()
    with mock.patch.object(os, "fdatasync", side_effect=OSError(errno.EIO, "Input/output error")):
        writer = EpisodeWriter(tmp_path, head)
        writer.append(row(0, head))
        while not writer.trouble:
            pass
        assert "may have lost data: [Errno 5] Input/output error" in writer.trouble
        writer.append(row(1, head))  # writing goes on as long as it can
    assert writer.close("the disk") == tmp_path / "episode_0.hdf5"
    with pytest.raises(EpisodeError, match="may have lost data"):
        writer.wait_synced(60.0)
    check(tmp_path / "episode_0.hdf5", head, 2)


@pytest.mark.parametrize("fault", ["copy", "flush", "close"])
def test_an_error_in_the_middle_of_anything_leaves_the_rows_before(tmp_path, fault):
    """Errors of HDF5 itself, not of the disk."""
    head = small()
    writer = EpisodeWriter(tmp_path, head)
    for t in range(6):
        writer.append(row(t, head))
    writer.flush()
    writer.append(row(6, head))
    broken = {
        "copy": (h5py.Dataset, "resize"),
        "flush": (h5py.File, "flush"),
        "close": (h5py.AttributeManager, "update"),
    }
    with mock.patch.object(*broken[fault], side_effect=RuntimeError("no")):
        if fault == "close":
            with pytest.raises(EpisodeError, match="rows are there"):
                writer.close("operator")
        else:
            with pytest.raises(EpisodeError, match=r"cannot write: no\. Its first 6 rows are on disk"):
                writer.flush()
    path = recover(writer.path).path if fault == "close" else writer.close("operator")
    check(path, head, 6)
