"""Kills recorders at random moments and looks at what is left: python recorder_kills.py --kills 100 (make test-kill).

A child process records four cameras at 50 Hz as the node does, through a Take; every frame carries its number in
large black and white squares, which JPEG cannot blur away. It is killed (SIGKILL) while it records, or just when
it was asked to stop, some of them after a redo. Its file is recovered, checked frame by frame, and compared with what
the child had made.
"""

from __future__ import annotations

import argparse
import mmap
import random
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from recorder_episodes import CAMERAS, DT_NS, header, row
from tqdm import tqdm

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import find_damaged, recover
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter
from vla_recorder.take import Ending, Take

SMALL, FULL = (120, 160), (480, 640)
SQUARES = (4, 8)  # of bits, most significant first: the number of a frame
STATE = struct.Struct("<qqq")  # newest row made: its stamp and number; how many rows were flushed by then
LONGEST_S = 4.0
ALLOWED_LOSS_S = 1.0


class NumberedSource:
    """A row each 20 ms of wall time. Frame number = 4 * row + camera."""

    def __init__(self, size: tuple[int, int], shared: mmap.mmap):
        self._head, self._shared = header(*size), shared
        self.writer: EpisodeWriter | None = None
        self._made = 0
        self._first_ns: int | None = None
        squares = np.indices(size) * np.array(SQUARES)[:, None, None] // np.array(size)[:, None, None]
        self._bit = 31 - (squares[0] * SQUARES[1] + squares[1])  # (H, W): which bit a pixel shows
        self._blank = row(0, header(1, 1))

    def settled(self, t_ns: int) -> bool:
        return time.time_ns() >= t_ns

    has_action = settled

    def row(self, t_ns: int):
        numbers = range(4 * self._made, 4 * self._made + 4)
        images = {camera: self._frame(number) for camera, number in zip(CAMERAS, numbers, strict=True)}
        made = replace(self._blank, stamp_ns=t_ns, images=images)
        made.stream_stamps_ns = np.full(len(self._head.stream_names), t_ns)
        STATE.pack_into(self._shared, 0, t_ns, self._made, self.writer.flushed_rows)
        self._made += 1
        return made, {}

    def _frame(self, number: int) -> np.ndarray:
        grey = ((number >> self._bit & 1) * 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)


def number_of(frame: np.ndarray) -> int:
    """The number that a frame carries."""
    height, width = frame.shape[:2]
    rows = (np.arange(SQUARES[0]) * 2 + 1) * height // (2 * SQUARES[0])
    columns = (np.arange(SQUARES[1]) * 2 + 1) * width // (2 * SQUARES[1])
    bits = frame[np.ix_(rows, columns)].mean(axis=2).ravel() > 127
    return int(np.packbits(bits).view(">u4")[0])


def begin(folder: str, form: str, size: tuple[int, int], shared: mmap.mmap) -> Take:
    source = NumberedSource(size, shared)
    take = Take(folder, header(*size, image_form=form), source, time.time_ns)
    source.writer = take.writer
    take.start()
    while not take.rows:
        time.sleep(0.001)
    return take


def record(folder: str, form: str, height: str, width: str, stop_after_s: str, redo: str) -> None:
    """The child: records until it is killed, or is told to stop after a while."""
    size = (int(height), int(width))
    with open(Path(folder) / "state", "r+b") as file:
        shared = mmap.mmap(file.fileno(), STATE.size)
    if redo == "redo":
        begin(folder, form, size, shared).stop(Ending("operator: redo", save=False))
    take = begin(folder, form, size, shared)
    print("recording", flush=True)
    time.sleep(float(stop_after_s))
    print("stopping", flush=True)
    print(take.stop(Ending("operator", label="success")), flush=True)
    time.sleep(60.0)


@dataclass(frozen=True)
class Kill:
    """What one kill left."""

    form: str
    size: tuple[int, int]
    closing: bool
    rows: int = 0
    lost_rows: int = 0
    lost_s: float = 0.0
    recover_s: float = 0.0
    problem: str = ""


def kill_one(folder: Path, number: int, longest_s: float = LONGEST_S) -> Kill:
    """Start a child, kill it at a moment drawn by `number`, recover and check. Problems are in the result.

    Odd numbers record JPEG; one of five has frames of full size, one of five is killed while it stops, half of them
    have discarded a take of the same number just before.
    """
    rng = random.Random(number)
    form, closing = ("raw", "jpeg")[number % 2], number % 10 >= 8
    size = FULL if number % 5 == 0 else SMALL
    after_s = rng.uniform(0.0, longest_s)
    state = folder / "state"
    state.write_bytes(bytes(STATE.size))
    stop_s = after_s if closing else 10 * longest_s
    redo = "redo" if number % 4 >= 2 else ""
    args = [sys.executable, __file__, "--child", folder, form, *size, stop_s, redo]
    child = subprocess.Popen([*map(str, args)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "recording\n", "the child did not come up"
        if closing:
            assert child.stdout.readline() == "stopping\n"
            time.sleep(rng.uniform(0.0, 0.15))
        else:
            time.sleep(after_s)
    finally:
        child.kill()
        killed_ns = time.time_ns()
        child.wait()
        child.stdout.close()
    kill = Kill(form, size, closing)
    try:
        return _judge(kill, folder, STATE.unpack(state.read_bytes()), killed_ns)
    except Exception as error:
        return replace(kill, problem=f"{type(error).__name__}: {error}")


def _judge(kill: Kill, folder: Path, state: tuple[int, int, int], killed_ns: int) -> Kill:
    newest_ns, newest, flushed = state
    begin = time.perf_counter()
    for path in find_damaged(folder):
        recover(path)
    took_s = time.perf_counter() - begin
    made = sorted(folder.glob("*.hdf5"))
    if not made:  # no row was flushed yet: all there was is lost
        assert list((folder / "trash").iterdir()) and not flushed
        return replace(kill, lost_rows=newest + 1, lost_s=(newest + 1) * DT_NS * 1e-9, recover_s=took_s)
    (path,) = made
    assert not (found := problems(path, every_frame=True)), found
    with EpisodeReader(path) as episode:
        T = len(episode)
        assert flushed <= T, f"{flushed} rows were flushed, {T} are there"
        numbers = [[number_of(frame) for frame in episode.images(camera)[:T]] for camera in CAMERAS]
        np.testing.assert_array_equal(np.transpose(numbers), 4 * np.arange(T)[:, None] + np.arange(4))
        np.testing.assert_array_equal(np.diff(episode.stamps_ns), DT_NS)
        end_ns = newest_ns if kill.closing else min(killed_ns, newest_ns + DT_NS)
        lost_s = (end_ns - episode.stamps_ns[-1]) * 1e-9
    return replace(kill, rows=T, lost_rows=newest + 1 - T, lost_s=lost_s, recover_s=took_s)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=2, help="children that record at the same time")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first kill: another one, other moments"
    )
    options = parser.parse_args()
    done: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_once) as pool:
        folders = [Path(folder) / str(i) for i in range(options.first, options.first + options.kills)]
        for each in folders:
            each.mkdir()
        jobs = [pool.submit(kill_one, each, int(each.name)) for each in folders]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="kills", unit="kill"):
            done.append(job.result())
            if done[-1].problem:
                tqdm.write(f"{done[-1]}")
    return summary(done)


def summary(kills: list[Kill]) -> int:
    """Print what became of them; 1 when a file was not whole or more than ALLOWED_LOSS_S was lost."""
    print(
        f"{'':<26}{'kills':>6}{'damaged':>9}{'rows':>8}{'lost rows max':>15}{'lost s max':>12}{'recover s max':>15}"
    )
    for form in ("raw", "jpeg"):
        for size in (SMALL, FULL):
            for closing in (False, True):
                group = [k for k in kills if (k.form, k.size, k.closing) == (form, size, closing)]
                if not group:
                    continue
                name = f"{form} {size[0]}x{size[1]}{', stopping' if closing else ''}"
                print(
                    f"{name:<26}{len(group):>6}{sum(bool(k.problem) for k in group):>9}"
                    f"{sum(k.rows for k in group):>8}{max(k.lost_rows for k in group):>15}"
                    f"{max(k.lost_s for k in group):>12.2f}{max(k.recover_s for k in group):>15.2f}"
                )
    damaged = sum(bool(kill.problem) for kill in kills)
    late = sum(kill.lost_s > ALLOWED_LOSS_S for kill in kills)
    print(f"{len(kills)} kills: {damaged} damaged files, {late} lost more than {ALLOWED_LOSS_S:g} s")
    return 1 if damaged or late else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        record(*sys.argv[2:])
    sys.exit(main())
