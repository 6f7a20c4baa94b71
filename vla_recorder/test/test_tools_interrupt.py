"""Ctrl-C at any line of a tool: nothing half-made is left, what has its final name is whole, one line is said."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from tool_episodes import run_episode, write

from vla_recorder.tools.interrupt import deferred, grant
from vla_recorder.tools.progress import bar

IMPORTS = ["vla_recorder.tools.video", "vla_recorder.lerobot.export", "vla_recorder.lerobot.load"]
DATA_SET = [
    *("set/data/chunk-000/file-000.parquet", "set/meta/episodes/chunk-000/file-000.parquet"),
    *(f"set/meta/{name}" for name in ("info.json", "stats.json", "tasks.parquet", "vla.json")),
    "set/videos/observation.images.cam_high/chunk-000/file-000.mp4",
]


def small(folder):
    """Two rows of one camera: there are many moments."""

    def change(rows):
        for row in rows:
            row.images = {"cam_high": row.images["cam_high"]}

    streams = ["cam_high", "follower_left", "follower_right", "command"]
    camera = {"cam_high": (48, 64)}
    return write(folder, rows=2, change=change, cameras=camera, stream_names=streams, stream_topics=streams)


@pytest.fixture
def scratch():
    """In memory where that can be: each moment syncs what it makes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield folder


@pytest.mark.timeout(300)  # some seventy processes each
@pytest.mark.parametrize(
    ("words", "made"),
    {
        "video": ("video {episode} --to {to}", ["episode_0.mp4"]),
        "to-jpeg": ("convert to-jpeg {episode} --to {to}", ["episode_0.hdf5"]),
        "merge": ("merge {episode} --copy --to {to}", [".recorder.lock", "episode_0.hdf5"]),
        "to-lerobot": ("convert to-lerobot {episode} --to {to}/set", DATA_SET),
        "from-lerobot": ("convert from-lerobot {set} --to {to}", ["episode_0.hdf5"]),
    }.values(),
    ids=["video", "to-jpeg", "merge", "to-lerobot", "from-lerobot"],
)
def test_nothing_half_made_is_left(tmp_path, scratch, words, made):
    episode, data_set = small(tmp_path / "from"), tmp_path / "set"
    if "{set}" in words:
        run_episode("convert", "to-lerobot", episode, "--to", data_set, check=0)
    words = words.replace("{episode}", str(episode)).replace("{set}", str(data_set))
    driver = [sys.executable, Path(__file__).with_name("interrupted_tool.py"), json.dumps(words.split())]
    done = subprocess.run(
        [*driver, scratch, "20", json.dumps(IMPORTS)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["whole"]["code"] == 0 and result["whole"]["left"] == sorted(made), result["whole"]
    assert result["moments"] > 20 and not result["wrong"], result["wrong"][:5]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_effect_where_the_bar_moves(number):
    before, done = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), deferred(), bar(2, "work") as progress:
        progress.update()
        with deferred():  # as a file that is made within a longer work
            signal.raise_signal(number)
            done.append("the rest of the row")
        progress.update()
        pytest.fail("must not go on")
    assert done and signal.getsignal(number) is before
    grant()  # forgotten


def test_a_signal_at_the_end_takes_effect_after_it():
    with pytest.raises(KeyboardInterrupt), deferred():
        signal.raise_signal(signal.SIGINT)
    with (
        pytest.raises(KeyboardInterrupt),
        deferred(),
    ):  # for_each would go on with the next file after an error
        signal.raise_signal(signal.SIGINT)
        raise ValueError


def test_other_threads_stop_too_but_defer_nothing_themselves():
    stopped = []

    def work():
        with deferred():
            try:
                while True:
                    grant()
            except KeyboardInterrupt:
                stopped.append(True)

    thread = threading.Thread(target=work, daemon=True)
    with pytest.raises(KeyboardInterrupt), deferred():
        thread.start()
        os.kill(os.getpid(), signal.SIGINT)
        thread.join(60)
    assert stopped and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred():
            signal.raise_signal(signal.SIGHUP)
            grant()
    finally:
        signal.signal(signal.SIGHUP, before)
