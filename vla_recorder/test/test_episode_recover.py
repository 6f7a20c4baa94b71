"""What `recover` does with whatever it may find; editing finished files; the lock of a folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import h5py
import pytest
from recorder_episodes import header, row

from vla_recorder.episode import journal, layout
from vla_recorder.episode.editing import edited
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.lock import FolderLock
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import find_damaged, recover
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter

HEAD = header(12, 16)


def begun(folder, rows=5, index=None):
    writer = EpisodeWriter(folder, HEAD, index)
    for t in range(rows):
        writer.append(row(t, HEAD))
    writer.flush()
    return writer


def dead(folder, rows=5, index=None):
    """A .partial whose writer died."""
    writer = begun(folder, rows, index)
    writer._give_up(OSError("dead"))
    return writer.path


def closed(folder, rows=5, index=None):
    writer = begun(folder, rows, index)
    path = writer.close("operator", "success")
    assert writer.wait_synced(60.0)
    return path


def test_a_folder_of_crashed_ones(tmp_path):
    closed(tmp_path)
    expected = [dead(tmp_path, rows) for rows in (3, 4)]
    closed(tmp_path)
    (tmp_path / "notes.partial").touch()
    assert find_damaged(tmp_path) == expected
    for path, rows in zip(expected, (3, 4), strict=True):
        found = recover(path)
        assert (found.path, found.rows) == (path.with_suffix(""), rows)
        assert problems(found.path) == []
        with EpisodeReader(found.path) as episode:
            assert episode.end_reason == "recovered: the recording was cut short" and episode.label == "none"
            assert episode.attributes["ended"]
    assert find_damaged(tmp_path) == [] and not list(tmp_path.glob("*.journal"))


def test_after_a_power_cut_only_what_was_synced_counts(tmp_path):
    writer = begun(tmp_path, rows=4)
    writer.sync()
    writer._syncer._stop.set()
    writer._syncer._thread.join()
    for t in range(4, 9):
        writer.append(row(t, HEAD))
    writer.flush()
    writer._give_up(OSError("the power failed"))
    with mock.patch.object(journal, "_boot_id", lambda: b"of the next start"):
        with EpisodeReader(writer.path) as episode:
            assert len(episode) == 4
        found = recover(writer.path)
    assert found.rows == 4 and "started anew" in found.note and problems(found.path) == []


def test_what_must_not_be_recovered_is_refused_and_stays(tmp_path):
    live = begun(tmp_path)
    with pytest.raises(EpisodeError, match="a recorder is still writing this episode"):
        recover(live.path)
    live.append(row(5, HEAD))
    path = live.close("operator")
    assert live.wait_synced(60.0)
    with pytest.raises(EpisodeError, match="is a finished episode"):
        recover(path)
    partial = dead(tmp_path)
    partial.with_suffix("").write_text("another file")
    before = partial.read_bytes()
    with pytest.raises(EpisodeError, match="is there already; move one of them away"):
        recover(partial)
    assert partial.with_suffix("").read_text() == "another file" and partial.read_bytes() == before
    with pytest.raises(EpisodeError, match="not an episode's name"):
        recover(tmp_path / "notes.txt")
    with pytest.raises(EpisodeError, match="No such file"):
        recover(tmp_path / "episode_9.hdf5.partial")
    with pytest.raises(EpisodeError, match="no such folder"):
        find_damaged(tmp_path / "nowhere")


def test_a_recording_without_rows_goes_to_the_trash(tmp_path):
    found = recover(dead(tmp_path, rows=0))
    assert found.rows == 0 and found.path.parent == tmp_path / "trash" and "trash" in found.note
    assert find_damaged(tmp_path) == [] and not list(tmp_path.glob("episode_*"))
    (tmp_path / "episode_0.hdf5.partial").touch()  # killed as it was made
    (tmp_path / "episode_0.hdf5.journal").touch()
    assert recover(tmp_path / "episode_0.hdf5.partial").path.parent == tmp_path / "trash"
    (tmp_path / "episode_0.hdf5.partial").touch()  # killed before even the journal was made
    assert recover(tmp_path / "episode_0.hdf5.partial").path.parent == tmp_path / "trash"
    assert EpisodeWriter(tmp_path, HEAD).index == 0


def test_a_partial_without_journal_gives_what_hdf5_can_read(tmp_path):
    """As earlier versions left them: HDF5's own flushes, frames may be ahead of the numbers."""
    closed(tmp_path, rows=9).rename(partial := tmp_path / "episode_0.hdf5.partial")
    with h5py.File(partial, "r+") as file:
        file["vla"].attrs.update(end_reason="", label="none", ended="", format_version=1)
        for name in ("image_form", "jpeg_quality"):
            file["vla"].attrs.pop(name, None)
        for name in ("action", "vla/stamp_ns", "vla/streams/age_s"):
            file[name].resize(7, axis=0)
    found = recover(partial)
    assert found.rows == 7 and "no journal" in found.note and problems(found.path) == []
    with EpisodeReader(found.path) as episode:
        assert episode.attributes["format_version"] == 1 and episode.images("cam_low").shape[0] == 7


def test_a_file_that_cannot_be_read_stays_as_it_is(tmp_path):
    partial = tmp_path / "episode_0.hdf5.partial"
    partial.write_bytes(content := os.urandom(5000))
    with pytest.raises(EpisodeError, match=r"cannot be recovered.*It stays as it is"):
        recover(partial)
    assert partial.read_bytes() == content and [path.name for path in tmp_path.iterdir()] == [partial.name]


def test_an_unfinished_file_reads_as_of_its_last_flush_without_being_touched(tmp_path):
    partial = dead(tmp_path, rows=6)
    before = partial.read_bytes(), layout.journal_path(tmp_path, 0).read_bytes()
    with EpisodeReader(partial) as episode:
        assert (
            len(episode) == 6 and episode.action[5, 0] == -500 and episode.images("cam_low")[5, 0, 0, 0] == 5
        )
    assert problems(partial) == ["was never closed (.partial): the recording was cut short"]
    assert (partial.read_bytes(), layout.journal_path(tmp_path, 0).read_bytes()) == before


def test_a_finished_file_that_was_cut_off_before_its_last_sync_says_so(tmp_path):
    writer = begun(tmp_path)
    with mock.patch.object(writer._store, "settle", side_effect=OSError("cut off")):
        path = writer.close("operator", "success")
        with pytest.raises(EpisodeError, match="cut off"):
            writer.wait_synced(60.0)
    assert [problem for problem in problems(path) if "its journal is still there" in problem]
    with EpisodeReader(path) as episode:
        assert len(episode) == 5 and episode.label == "success"
    assert find_damaged(tmp_path) == [path]
    found = recover(path)
    assert (found.path, found.rows) == (path, 5) and problems(path) == []
    with EpisodeReader(path) as episode:
        assert (episode.end_reason, episode.label) == ("operator", "success")


def test_a_spoilt_file_beside_its_journal_is_let_go_of(tmp_path):
    path = dead(tmp_path)
    path.write_bytes(b"text")
    layout.journal_path(tmp_path, 0).write_bytes(layout.journal_path(tmp_path, 0).read_bytes()[:44])
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EpisodeError, match="cannot be read as HDF5") as refused:
        EpisodeReader(path)
    assert len(os.listdir("/proc/self/fd")) == descriptors, refused


def test_a_journal_whose_file_was_removed_takes_no_index(tmp_path):
    dead(tmp_path).unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["episode_0.hdf5.journal"]
    assert begun(tmp_path).index == 0


def test_a_discarded_one_leaves_the_journal_of_the_next_alone(tmp_path):
    """Both have the same number, and the discarded one is still being synced when the next begins."""
    discarded = begun(tmp_path)
    synced = threading.Event()
    with mock.patch.object(discarded._store, "sync", lambda: synced.wait(60.0)):
        discarded.discard()
        writer = begun(tmp_path, rows=7)
        assert writer.index == discarded.index == 0
        synced.set()
        assert discarded.wait_synced(60.0)
    writer._give_up(OSError("dead"))
    found = recover(writer.path)
    assert (found.rows, found.note) == (7, "every row that was flushed") and problems(found.path) == []


def test_a_file_that_was_put_beside_an_unfinished_one_of_its_number_is_not_mixed_up_with_it(tmp_path):
    other = closed(tmp_path / "other", rows=9)
    partial = dead(tmp_path, rows=4)
    os.link(other, path := tmp_path / "episode_0.hdf5")  # as `episode merge` does
    with EpisodeReader(path) as episode:
        assert (len(episode), episode.label) == (9, "success")
    assert find_damaged(tmp_path) == [partial] and problems(path) == []
    with pytest.raises(EpisodeError, match="is a finished episode"):
        recover(path)
    with pytest.raises(EpisodeError, match="an unfinished episode has its number"), edited(path):
        pass
    path.unlink()
    assert recover(partial).rows == 4 and problems(other) == []


def test_a_finished_file_is_changed_whole_or_not_at_all(tmp_path):
    path = closed(tmp_path)
    with edited(path) as file:
        file["vla"].attrs["label"] = "failure"
    with pytest.raises(ZeroDivisionError), edited(path) as file:
        file["vla"].attrs["label"] = "none"
        file["action"][:] = 0
        _ = 1 / 0
    with EpisodeReader(path) as episode:
        assert episode.label == "failure" and episode.action[3, 0] == -300
    assert problems(path) == [] and [each.name for each in tmp_path.iterdir()] == ["episode_0.hdf5"]
    with pytest.raises(EpisodeError, match="cannot be changed"), edited(tmp_path / "episode_7.hdf5"):
        pass


def test_an_index_can_be_asked_for_and_is_never_shared(tmp_path):
    assert closed(tmp_path, index=3).name == "episode_3.hdf5"
    with pytest.raises(EpisodeError, match=r"episode_3\.hdf5: is there already"):
        EpisodeWriter(tmp_path, HEAD, index=3)
    assert begun(tmp_path).index == 0


HOLDER = """
import sys
from vla_recorder.episode.lock import FolderLock
lock = FolderLock(sys.argv[1], "/left/recorder")
print("held", flush=True)
sys.stdin.read()
"""


def test_one_recorder_for_a_folder(tmp_path):
    folder = tmp_path / "new" / "folder"
    args = [sys.executable, "-c", HOLDER, str(folder)]
    first = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        held = rf"folder: '/left/recorder' \(pid {first.pid} on .*, since 20.*\) is recording here"
        with pytest.raises(EpisodeError, match=held):
            FolderLock(folder, "second")
        FolderLock(tmp_path / "other", "second").release()
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    with FolderLock(folder, "second"):  # a killed holder holds nothing
        with pytest.raises(EpisodeError, match="'second'"):
            FolderLock(folder, "third")
    with FolderLock(folder, "third") as lock:
        os.truncate(lock.path, 0)
        with pytest.raises(EpisodeError, match="another recorder is recording here"):
            FolderLock(folder, "fourth")
    assert Path(lock.path).read_bytes() == b""
    lock.release()


def test_a_lock_on_a_disk_that_refuses_is_let_go(tmp_path):
    lock = FolderLock(tmp_path, "first")
    with mock.patch.object(os, "ftruncate", side_effect=OSError(30, "Read-only file system")):
        lock.release()
    FolderLock(tmp_path, "second").release()


def test_a_file_system_without_locks_is_refused_and_left_as_it_was(tmp_path):
    refusal = OSError(errno.ENOLCK, "No locks available")
    with mock.patch.object(fcntl, "flock", side_effect=refusal):
        with pytest.raises(EpisodeError, match=r"this file system cannot lock files: .*No locks available"):
            FolderLock(tmp_path / "a", "recorder")
        with pytest.raises(EpisodeError, match=r"cannot write episodes here: .*No locks available"):
            EpisodeWriter(tmp_path / "b", HEAD)
    assert list((tmp_path / "b").iterdir()) == []


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EpisodeError, match="cannot write here"):
        FolderLock(tmp_path / "file", "recorder")
