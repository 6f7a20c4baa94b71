"""The file under HDF5 against a model of it: plain bytes, and a copy of them for each commit."""

import os
import random
import shutil
from unittest import mock

import pytest
from recorder_disk import PAGE, RecordedDisk

from vla_recorder.episode import disk, journal
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.transactions import TransactionalFile

PAGES = 12


class Model:
    """Random writes, commits and syncs; what the file must read as, and what it was at each commit."""

    def __init__(self, folder, rng):
        self.disk, self.rng, self.folder = RecordedDisk(folder), rng, folder
        self.content = bytearray()
        self.commits = [b""]

    def run(self, steps):
        with self.disk.recording():
            self.file = TransactionalFile.create(self.folder / "file", self.folder / "journal")
            for _ in range(steps):
                self.rng.choice([self.write] * 6 + [self.read] * 2 + [self.commit] * 3 + [self.sync])()
            self.commit()
            self.file.finish()
            self.disk.note("finished")
            assert (self.folder / "file").read_bytes() == self.content
            self.file.settle()
            self.file.close()

    def write(self):
        write_somewhere(self.file, self.content, self.rng)

    def read(self):
        offset = self.rng.randrange(len(self.content) + 1)
        found = bytearray(self.rng.randrange(2 * PAGE))
        self.file.seek(offset)
        self.file.readinto(found)
        expected = self.content[offset : offset + len(found)]
        assert found[: len(expected)] == expected and not any(found[len(expected) :])

    def commit(self):
        self.file.truncate(len(self.content))  # as HDF5 does before it says that a flush is over
        self.file.commit()
        self.commits.append(bytes(self.content))
        self.disk.note("committed", len(self.commits) - 1)

    def sync(self):
        self.file.sync()
        self.disk.note("synced", len(self.commits) - 1)


def write_somewhere(file, content, rng):
    offset = rng.randrange(min(len(content), PAGES * PAGE) + 1)
    data = rng.randbytes(rng.choice([8, 100, PAGE, 3 * PAGE]))
    file.seek(offset)
    file.write(data)
    content[offset : offset + len(data)] = data


def newest(model, mark, count):
    return max((call[1] for call in model.disk.calls[:count] if call[0] == mark), default=0)


def content_after(folder):
    """What the next owner of the files finds."""
    if not (folder / "journal").exists():
        return (folder / "file").read_bytes() if (folder / "file").exists() else b""
    file = TransactionalFile.open(folder / "file", folder / "journal", write=True)
    found = bytes(content_of(file))
    if file.journal.sequence:
        file.finish()
        assert (folder / "file").read_bytes() == found
    file.close()
    return found


def content_of(file):
    found = bytearray(file.seek(0, os.SEEK_END))
    file.seek(0)
    file.readinto(found)
    return found


def check_that_it_can_be_gone_on_with(folder, rng):
    """The next owner writes into the file, too, and is cut off like the first one."""
    file = TransactionalFile.open(folder / "file", folder / "journal", write=True)
    content = content_of(file)
    for _ in range(3):
        write_somewhere(file, content, rng)
        file.truncate(len(content))
        file.commit()
        assert content_of(file) == content
    if rng.random() < 0.5:
        file.sync()
        file.close()
        with mock.patch.object(journal, "_boot_id", lambda: b"of the start after that"):
            file = TransactionalFile.open(folder / "file", folder / "journal", write=True)
            assert content_of(file) == content
    file.finish()
    file.settle()
    file.close()
    assert (folder / "file").read_bytes() == content and not (folder / "journal").exists()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("power", [False, True])
def test_whatever_is_cut_off_leaves_a_whole_commit(tmp_path, seed, power):
    rng = random.Random(seed)
    (tmp_path / "whole").mkdir()
    model = Model(tmp_path / "whole", rng)
    model.run(60)
    finished = model.disk.calls.index(("finished", 0))
    boot = mock.patch.object(journal, "_boot_id", lambda: b"of the next start" if power else journal_boot)
    journal_boot = journal._boot_id()
    with boot, mock.patch.object(os, "fdatasync"):
        for count in range(3, len(model.disk.calls) + 1):
            folder = tmp_path / str(count)
            folder.mkdir()
            if power:
                model.disk.after_power_cut(count, folder, rng)
            else:
                model.disk.after_kill(count, folder, rng.random())
            # before the first commit nothing is promised, not even that there is nothing
            least = newest(model, "synced" if power else "committed", count)
            if least and (folder / "journal").exists():
                shutil.copytree(folder, folder / "on")
                check_that_it_can_be_gone_on_with(folder / "on", rng)
            found = content_after(folder)
            assert found in model.commits[least:] or (not least and count <= finished), count


def test_commits_that_a_power_cut_took_back_stay_away(tmp_path):
    def append(file, number, letter):
        file.seek(number * PAGE)
        file.write(letter * PAGE)
        file.commit()

    file = TransactionalFile.create(tmp_path / "file", tmp_path / "journal")
    for number in range(3):
        append(file, number, b"-")
    append(file, 0, b"A")
    file.sync()
    append(file, 1, b"B")
    file.close()
    for boot, letter in ((b"second", b"C"), (b"third", b"D")):
        with mock.patch.object(journal, "_boot_id", lambda boot=boot: boot):
            file = TransactionalFile.open(tmp_path / "file", tmp_path / "journal", write=True)
            append(file, 2, letter)
            file.sync()
            file.close()
    assert content_after(tmp_path) == b"A" * PAGE + b"-" * PAGE + b"D" * PAGE


def test_what_is_brought_in_while_it_is_read_is_seen(tmp_path):
    """The other thread syncs between the two looks of a read: into the file, and at the pages not in it yet."""
    file = TransactionalFile.create(tmp_path / "file", tmp_path / "journal")
    file.write(b"a" * PAGE)
    file.commit()
    file.seek(0)
    file.write(b"b" * PAGE)
    file.commit()
    read_all = disk.read_all

    def read_then_sync(fd, *args):
        found = read_all(fd, *args)
        if fd == file.fileno() and file.journal.pages:
            file.sync()
        return found

    with mock.patch.object(disk, "read_all", read_then_sync):
        assert content_of(file) == b"b" * PAGE
    file.close()


def test_a_file_has_one_writer(tmp_path):
    file = TransactionalFile.create(tmp_path / "file", tmp_path / "journal")
    with pytest.raises(FileExistsError):
        TransactionalFile.create(tmp_path / "file", tmp_path / "journal")
    with pytest.raises(EpisodeError, match="a recorder is still writing"):
        TransactionalFile.open(tmp_path / "file", tmp_path / "journal", write=True)
    file.close()
    TransactionalFile.open(tmp_path / "file", tmp_path / "journal", write=True).close()


def test_what_the_disk_refuses_is_noted_and_the_last_commit_stays(tmp_path):
    file = TransactionalFile.create(tmp_path / "file", tmp_path / "journal")
    file.write(b"a" * 3 * PAGE)
    file.commit()
    with mock.patch.object(os, "pwrite", side_effect=OSError(5, "Input/output error")):
        assert file.write(b"b" * 100) == 100 and file.error.errno == 5
    file.seek(10)
    file.write(b"c")  # HDF5 goes on, in memory
    with pytest.raises(OSError, match="Input/output error"):
        file.commit()
    read = bytearray(3 * PAGE + 200)
    file.seek(0)
    file.readinto(read)
    assert read == b"a" * 10 + b"c" + b"a" * (3 * PAGE - 11) + b"b" * 100 + bytes(100)
    file.close()
    assert content_after(tmp_path) == b"a" * 3 * PAGE
