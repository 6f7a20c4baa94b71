"""The `episode` command as people type it: help, several files at once, exit codes, progress, Ctrl-C."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time

import h5py
import numpy as np
import pytest
from tool_episodes import names, run_episode, write

from vla_recorder.tools.cli import main
from vla_recorder.tools.commands import COMMANDS

EPISODE = [sys.executable, "-m", "vla_recorder.tools.cli"]


def leaves(commands, before=()):
    for command in commands:
        words = (*before, command.name)
        yield from leaves(command.commands, words) if command.commands else [words]


@pytest.mark.parametrize("words", list(leaves(COMMANDS)), ids=" ".join)
def test_every_help_teaches(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"episode {' '.join(words)} " in shown.split("examples:")[1] and "exit codes:" in shown


def test_the_list_of_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(command.name in shown for command in COMMANDS) and "exit codes:" in shown
    for wrong in ([], ["inpsect"], ["convert"], ["inspect"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2


def test_help_starts_without_loading_the_world():
    """ROS, PyAV, matplotlib and torch take seconds: who only inspects or asks for help does not wait for them."""
    check = (
        "import sys, vla_recorder.tools.cli; print({'rclpy', 'av', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_inspect_goes_on_after_a_corrupt_file(tmp_path, capsys):
    good, torn, empty = write(tmp_path, rows=5), tmp_path / "torn.hdf5", tmp_path / "empty.hdf5"
    torn.write_bytes(good.read_bytes()[:4000])
    empty.touch()
    assert main(["inspect", "--json", str(torn), str(empty), str(good)]) == 1
    said = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in said.err.splitlines()] == [str(torn), str(empty)]
    assert json.loads(said.out)["path"] == str(good)


def test_inspect_a_file_that_is_being_written(tmp_path, capsys):
    writer = write(tmp_path, rows=7, closed=False, form="jpeg")
    writer.flush()
    assert main(["inspect", str(writer.path)]) == 0
    assert "7 rows, 0.14 s at 50 Hz; ended: never closed" in capsys.readouterr().out
    writer.discard()


def test_validate_says_what_is_wrong_with_which_file_and_what_a_folder_lacks(tmp_path, capsys):
    good, bad = write(tmp_path, rows=5), write(tmp_path, rows=6)
    os.rename(write(tmp_path, rows=5, form="jpeg"), tmp_path / "episode_7.hdf5")
    with h5py.File(bad, "r+") as file:
        file["observations/qpos"][3, 2] = np.nan
    assert main(["validate", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == f"{good}: valid" and lines[1] == f"{bad}: /observations/qpos is not finite in 1 of 6 rows"
    )
    assert f"note: {tmp_path}: numbers do not run from 0 without gaps" in lines[3]
    assert lines[4] == f"note: {tmp_path}/episode_7.hdf5: its image form is not that of {good}"
    assert main(["validate", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: valid\n"


WRITE_AND_DIE = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from tool_episodes import write
writer = write(sys.argv[1], rows=int(sys.argv[3]), closed=False)
writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_recover_a_folder_of_killed_recordings(tmp_path):
    for rows in (5, 9):
        command = [sys.executable, "-c", WRITE_AND_DIE, str(tmp_path), os.path.dirname(__file__), str(rows)]
        assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    living = write(tmp_path, rows=3, closed=False)
    living.flush()
    listed = run_episode("recover", tmp_path, "--dry-run", check=0).stdout
    assert listed.count("would recover") == 3 and "episode_1.hdf5.partial" in names(tmp_path)
    done = run_episode("recover", tmp_path, check=1)
    assert f"{tmp_path}/episode_1.hdf5.partial -> {tmp_path}/episode_1.hdf5: 9 rows" in done.stdout
    assert "episode_2.hdf5" in done.stderr and "a recorder is still writing this episode" in done.stderr
    assert run_episode("validate", tmp_path, check=0).stdout.count(": valid") == 2
    assert "recovered" in run_episode("inspect", tmp_path / "episode_0.hdf5", check=0).stdout
    living.discard()
    living.wait_synced()
    assert run_episode("recover", tmp_path, check=0).stdout == "nothing to recover\n"
    assert run_episode("recover", tmp_path / "none", check=2).stderr.count("no such file") == 1


def on_terminal(command):
    """(process, what it shows on a terminal): only its stderr, where the bar is."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([*EPISODE, *map(str, command)], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    return process, ours


def shown_by(terminal) -> str:
    text = b""
    while True:
        try:
            text += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            os.close(terminal)
            return text.decode()


@pytest.mark.parametrize(
    ("words", "total"), [("convert to-jpeg {path} --to {to}", 150), ("validate --every-frame {path}", 600)]
)
def test_long_work_shows_how_far_it_is(tmp_path, words, total):
    path = write(tmp_path, rows=150, size=(240, 320))
    process, terminal = on_terminal(words.format(path=path, to=tmp_path / "to").split())
    shown = shown_by(terminal)
    assert process.wait(60) == 0 and "episode_0.hdf5" in shown and f"/{total} " in shown and "%" in shown


def test_ctrl_c_leaves_nothing_half_written(tmp_path):
    path, to = write(tmp_path, rows=250, size=(240, 320)), tmp_path / "to"
    process = subprocess.Popen(
        [*EPISODE, "video", str(path), "--to", str(to)], stderr=subprocess.PIPE, text=True
    )
    end_s = time.monotonic() + 60
    while not to.exists():
        assert process.poll() is None and time.monotonic() < end_s
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == "episode: interrupted\n" and names(to) == []


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    path = write(tmp_path, rows=5)
    listing = subprocess.Popen(
        [*EPISODE, "inspect", *[str(path)] * 400], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    listing.stdout.readline()
    listing.stdout.close()
    assert listing.stderr.read() == b"" and listing.wait(60) == 0
