"""Which files a command line means; and that a new file is there whole, or not at all."""

import os
import signal
import subprocess
import sys

import pytest
from tool_episodes import names

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.tools.files import find
from vla_recorder.tools.whole import new_file


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "day"
    made.mkdir()
    for name in (
        "episode_10.hdf5",
        "episode_9.hdf5",
        "episode_0.hdf5",
        "episode_1.hdf5.partial",
        "notes.hdf5",
        "a.txt",
    ):
        (made / name).touch()
    (made / "trash").mkdir()
    (made / "trash" / "episode_3.hdf5").touch()
    return made


def test_a_folder_means_its_finished_episodes_by_number(folder):
    assert [path.name for path in find([folder])] == ["episode_0.hdf5", "episode_9.hdf5", "episode_10.hdf5"]


def test_files_and_patterns_each_once_in_the_order_given(folder):
    given = [folder / "notes.hdf5", f"{folder}/episode_*.hdf5", folder, f"{folder.parent}/**/episode_3.hdf5"]
    found = [path.name for path in find(given)]
    assert found == ["notes.hdf5", "episode_0.hdf5", "episode_9.hdf5", "episode_10.hdf5", "episode_3.hdf5"]


def test_what_names_nothing_is_an_error(folder, tmp_path):
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    (crashed / "episode_0.hdf5.partial").touch()
    for argument, said in (
        (folder / "episode_7.hdf5", "no such file; give an episode"),
        (f"{folder}/episode_7*.hdf5", "no such file; give an episode"),
        (folder / "trash" / "none", "no such file"),
        (tmp_path, "has no finished episodes"),
        (crashed, "has no finished episodes .*, but 1 unfinished: run `episode recover "),
    ):
        with pytest.raises(EpisodeError, match=said) as error:
            find([folder, argument])
        assert str(argument) in str(error.value)


def test_a_new_file_appears_when_it_is_complete(tmp_path):
    final = tmp_path / "deep" / "made.bin"
    with new_file(final) as partial:
        partial.write_bytes(b"all of it")
        assert not final.exists()
    assert names(final.parent) == ["made.bin"] and final.read_bytes() == b"all of it"


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_file(tmp_path / "made.bin") as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_nothing_is_overwritten_not_even_what_comes_meanwhile(tmp_path):
    final = tmp_path / "made.bin"
    with pytest.raises(EpisodeError, match="made by somebody else meanwhile"), new_file(final) as partial:
        partial.write_bytes(b"mine")
        final.write_bytes(b"yours")
    with pytest.raises(EpisodeError, match="exists already"), new_file(final):
        pytest.fail("must not begin")
    assert names(tmp_path) == ["made.bin"] and final.read_bytes() == b"yours"


def test_the_number_of_an_unfinished_episode_is_not_given_away(tmp_path):
    """The new file would be read together with the other one's journal."""
    (tmp_path / "episode_2.hdf5.journal").touch()
    with pytest.raises(EpisodeError, match="an unfinished episode has this number"):
        with new_file(tmp_path / "episode_2.hdf5"):
            pass
    assert names(tmp_path) == ["episode_2.hdf5.journal"]


def test_two_at_once_do_not_share_a_file(tmp_path):
    with new_file(tmp_path / "made.bin") as partial:
        partial.write_bytes(b"first")
        with pytest.raises(EpisodeError, match="another process is writing"), new_file(tmp_path / "made.bin"):
            pytest.fail("must not begin")
    assert (tmp_path / "made.bin").read_bytes() == b"first" and names(tmp_path) == ["made.bin"]


KILLED = """
import os, signal, sys
from pathlib import Path
from vla_recorder.tools.whole import new_file
with new_file(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_replaced(tmp_path):
    final = tmp_path / "made.bin"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(final)], timeout=60)
    assert killed.returncode == -signal.SIGKILL and names(tmp_path) == [".made.bin.unfinished"]
    with new_file(final) as partial:
        partial.write_bytes(b"whole")
    assert names(tmp_path) == ["made.bin"] and final.read_bytes() == b"whole"


def test_a_leftover_that_is_a_second_name_of_a_file_does_not_cost_that_file(tmp_path):
    """Killed between giving the final name and taking away the first; then the file was moved."""
    moved = tmp_path / "moved.bin"
    moved.write_bytes(b"precious")
    os.link(moved, tmp_path / ".made.bin.unfinished")
    with new_file(tmp_path / "made.bin") as partial:
        partial.write_bytes(b"new")
    assert moved.read_bytes() == b"precious" and (tmp_path / "made.bin").read_bytes() == b"new"


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with new_file(tmp_path / "made.bin") as partial:
        partial.write_bytes(b"whole")
    assert names(tmp_path) == ["made.bin"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EpisodeError, match="cannot be written"), new_file(tmp_path / "file" / "made.bin"):
        pytest.fail("must not begin")
