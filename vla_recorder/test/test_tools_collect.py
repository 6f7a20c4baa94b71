"""`episode merge` and `episode renumber`: contiguous numbers, in order, nothing lost whatever happens."""

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tool_episodes import names, run_episode, write

from vla_recorder.episode.lock import FolderLock
from vla_recorder.tools.cli import main
from vla_recorder.tools.collect import renumber

SHM = Path("/dev/shm")


def folder_of(place, numbers):
    """Files whose content is their number."""
    place.mkdir()
    for number in numbers:
        (place / f"episode_{number}.hdf5").write_text(str(number))
    return place


def contents(folder):
    """What the files episode_0, episode_1, ... hold; the numbers must have no gap."""
    found = [name for name in names(folder) if name.endswith(".hdf5")]
    return [(folder / f"episode_{i}.hdf5").read_text() for i in range(len(found))]


def test_merge_numbers_without_gaps_in_the_order_given(tmp_path, capsys):
    monday, tuesday = folder_of(tmp_path / "monday", [0, 2, 10]), folder_of(tmp_path / "tuesday", [5])
    week = tmp_path / "week"
    assert main(["merge", str(tuesday), str(monday), "--to", str(week), "--dry-run"]) == 0
    assert not week.exists() and "4 episodes would be linked" in capsys.readouterr().out
    assert main(["merge", str(tuesday), str(monday), "--to", str(week)]) == 0
    assert contents(week) == ["5", "0", "2", "10"]
    assert f"{monday}/episode_10.hdf5 -> {week}/episode_3.hdf5" in capsys.readouterr().out
    assert (week / "episode_0.hdf5").samefile(tuesday / "episode_5.hdf5"), "a second name, no second copy"
    assert names(monday) == ["episode_0.hdf5", "episode_10.hdf5", "episode_2.hdf5"]
    more = folder_of(tmp_path / "more", [0])
    assert main(["merge", str(monday), str(more), "--to", str(week)]) == 0, (
        "what is there already is left out"
    )
    assert contents(week) == ["5", "0", "2", "10", "0"]


def test_merge_leaves_out_what_is_there_as_a_copy(tmp_path, capsys):
    """Else a second run after a killed one, or the same day given twice, would double demonstrations."""
    source, target = folder_of(tmp_path / "source", [0, 1, 2]), tmp_path / "target"
    words = ["merge", str(source), "--to", str(target), "--copy"]
    assert main(words) == 0
    (target / "episode_2.hdf5").unlink()  # as if killed before it
    capsys.readouterr()
    assert main(words) == 0
    assert "1 episode copied; 2 are there already" in capsys.readouterr().out
    again = tmp_path / "again"
    again.mkdir()
    os.link(source / "episode_0.hdf5", again / "episode_0.hdf5")
    assert main(["merge", str(source), str(again), "--to", str(target)]) == 0
    assert contents(target) == ["0", "1", "2"]
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, text in ((one, "a"), (other, "b")):  # of one size and one time, yet two
        folder_of(folder, [0])
        (folder / "episode_0.hdf5").write_text(text)
        os.utime(folder / "episode_0.hdf5", (1, 1))
    assert main(["merge", str(one), str(other), "--to", str(tmp_path / "both")]) == 0
    assert contents(tmp_path / "both") == ["a", "b"]


def test_a_merge_that_fails_does_not_say_it_was_done(tmp_path):
    source = folder_of(tmp_path / "source", [0])
    (source / "episode_0.hdf5").write_bytes(bytes(200_000))

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = run_episode("merge", source, "--to", tmp_path / "to", "--copy", check=2, preexec_fn=limited)
    assert done.stdout == "" and "episode_0.hdf5: cannot be written: " in done.stderr


def test_merge_copies_when_asked(tmp_path):
    source, target = folder_of(tmp_path / "source", [3]), tmp_path / "target"
    assert main(["merge", str(source), "--to", str(target), "--copy"]) == 0
    made, original = target / "episode_0.hdf5", source / "episode_3.hdf5"
    assert not made.samefile(original) and made.read_bytes() == original.read_bytes()
    assert made.stat().st_mtime_ns == original.stat().st_mtime_ns


@pytest.mark.skipif(not SHM.is_dir(), reason="needs a second file system")
def test_merge_copies_to_another_disk(tmp_path):
    source = write(tmp_path / "source", rows=3)
    target = SHM / f"vla_merge_{os.getpid()}"
    assert target.parent.stat().st_dev != tmp_path.stat().st_dev
    try:
        assert main(["merge", str(source), "--to", str(target)]) == 0
        assert names(target) == ["episode_0.hdf5"]
        assert (target / "episode_0.hdf5").read_bytes() == source.read_bytes()
    finally:
        subprocess.run(["rm", "-rf", str(target)], check=True)


def test_merge_refuses_what_it_would_spoil(tmp_path, capsys):
    source, gaps = folder_of(tmp_path / "source", [0]), folder_of(tmp_path / "gaps", [1])
    for arguments, said in (
        ([source, "--to", gaps], f"its numbers have gaps; run `episode renumber {gaps}` first"),
        ([source, "--to", source], f"{source}/episode_0.hdf5: is in {source} already"),
        ([tmp_path / "none", "--to", gaps], "no such file"),
    ):
        assert main(["merge", *map(str, arguments)]) == 2
        assert said in capsys.readouterr().err
    (source / "episode_0.hdf5.journal").touch()
    assert main(["merge", str(source), "--to", str(tmp_path / "target")]) == 2
    assert "is unfinished; run `episode recover" in capsys.readouterr().err
    assert not (tmp_path / "target").exists()


def test_renumber_closes_gaps_and_keeps_the_order(tmp_path, capsys):
    folder = folder_of(tmp_path / "day", [2, 9, 10, 100])
    assert main(["renumber", str(folder), "--dry-run"]) == 0
    assert "4 episodes would be renamed" in capsys.readouterr().out and "episode_100.hdf5" in names(folder)
    assert main(["renumber", str(folder)]) == 0
    assert contents(folder) == ["2", "9", "10", "100"]
    assert f"{folder}/episode_100.hdf5 -> episode_3.hdf5" in capsys.readouterr().out
    assert main(["renumber", str(folder)]) == 0 and "0 episodes renamed" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(20))
def test_renumber_any_numbers(tmp_path, seed):
    numbers = sorted(random.Random(seed).sample(range(40), k=1 + seed))
    folder = folder_of(tmp_path / "day", numbers)
    renumber(folder)
    assert contents(folder) == [str(number) for number in numbers]


KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from vla_recorder.tools import collect
rename, left = os.rename, [int(sys.argv[2])]
def killed(*names):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    rename(*names)
os.rename = killed
collect.renumber(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("renames", [0, 1, 3])
def test_renumber_survives_a_kill_and_a_second_run_finishes_it(tmp_path, renames):
    numbers = [1, 3, 4, 8, 9]
    folder = folder_of(tmp_path / "day", numbers)
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER, str(folder), str(renames)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert all(name.startswith("episode_") and name.endswith(".hdf5") for name in names(folder))
    assert sorted(int((folder / name).read_text()) for name in names(folder)) == numbers, (
        "nothing is lost or doubled"
    )
    assert run_episode("renumber", folder, check=0).stdout.endswith("in the same order\n")
    assert contents(folder) == [str(number) for number in numbers]


def test_renumber_refuses_where_somebody_records_or_left_something(tmp_path, capsys):
    folder = folder_of(tmp_path / "day", [1])
    with FolderLock(folder, "recorder_at_work"):
        assert run_episode("renumber", folder, check=2).stderr.count("'recorder_at_work'") == 1
        assert run_episode("merge", folder, "--to", folder / "sub", check=0)
    (folder / "episode_0.hdf5.partial").touch()
    assert main(["renumber", str(folder)]) == 2
    assert "episode_0.hdf5.partial: is unfinished; run `episode recover" in capsys.readouterr().err
    source = folder_of(tmp_path / "source", [1])
    for left in ("episode_0.hdf5.partial", "episode_0.hdf5.journal"):
        (target := tmp_path / left / "day").mkdir(parents=True)
        (target / left).touch()
        assert main(["merge", str(source), "--to", str(target)]) == 2
        assert f"{left}: is unfinished; run `episode recover" in capsys.readouterr().err
        assert [path.name for path in target.iterdir()] == [left]
    assert main(["renumber", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists() and "is not a folder" in capsys.readouterr().err
    assert (folder / "episode_1.hdf5").read_text() == "1"
