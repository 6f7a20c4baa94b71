"""A take without ROS: its row source is driven by hand, the file is real."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder_episodes import DT_NS, header, row

from vla_recorder.commands import CommandHistory
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.take import Ending, Take, grid_at_or_after

HEAD = header(height=12, width=16)
START_NS = 1_000 * DT_NS


class HandDriven:
    """A row source and a clock that move when the test says so: the clock goes along with what has settled."""

    def __init__(self, head=HEAD):
        self.head = head
        self.now_ns = 0
        self.settled_ns = START_NS - 1
        self.problems = {}

    @property
    def settled_ns(self):
        return self._settled_ns

    @settled_ns.setter
    def settled_ns(self, t_ns):
        self._settled_ns, self.now_ns = t_ns, max(t_ns, self.now_ns)

    def settled(self, t_ns):
        return t_ns <= self.settled_ns

    has_action = settled

    def row(self, t_ns):
        made = row((t_ns - START_NS) // DT_NS, self.head)
        made.stamp_ns = t_ns
        made.fresh = np.array([name not in self.problems for name in self.head.stream_names])
        return made, dict(self.problems)

    def take(self, folder, **options):
        clocks = {"steady_ns": lambda: self.now_ns} | options
        return Take(folder, self.head, self, lambda: self.now_ns, **clocks)


def rows_of(path):
    with EpisodeReader(path) as episode:
        return ((episode.stamps_ns - START_NS) // DT_NS).tolist()


@given(st.integers(0, 2**62), st.sampled_from([round(1e9 / hz) for hz in (1, 15, 25, 30, 50, 60, 100, 1000)]))
def test_grid_times(t_ns, period_ns):
    at_ns = grid_at_or_after(t_ns, period_ns)
    assert at_ns % period_ns == 0 and t_ns <= at_ns < t_ns + period_ns
    assert grid_at_or_after(at_ns, period_ns) == at_ns


@given(
    st.lists(st.integers(0, 400), unique=True, max_size=60),
    st.integers(0, 400),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_the_command_of_an_observation(stamps, t, period, capacity):
    """First command in [t, t + period), else the newest before t; whatever arrived late was refused."""
    history, kept = CommandHistory(capacity), []
    for stamp in stamps:
        assert history.push(stamp, f"c{stamp}") == (not kept or stamp > kept[-1])
        if not kept or stamp > kept[-1]:
            kept.append(stamp)
    kept = kept[-capacity:]
    answers = [s for s in kept if t <= s < t + period][:1] or [s for s in kept if s < t][-1:]
    assert history.answer(t, period) == ((answers[0], f"c{answers[0]}") if answers else None)


def test_rows_start_when_every_stream_is_healthy_and_never_skip_after(tmp_path):
    source = HandDriven()
    source.problems = {"cam_low": "nothing received"}
    take = source.take(tmp_path)
    take.start()
    source.settled_ns = START_NS + 3 * DT_NS
    wait_until(lambda: take.waiting_for == "waiting for cam_low: nothing received")
    wait_until(lambda: take._next_ns > source.settled_ns)
    source.problems = {}
    source.settled_ns = START_NS + 6 * DT_NS
    wait_until(lambda: take.rows == 3)
    source.problems = {"cam_high": "0.4 s old"}
    source.settled_ns = START_NS + 9 * DT_NS
    wait_until(lambda: take.rows == 6)
    report = take.stop(Ending("operator", label="failure"))
    assert rows_of(report["path"]) == [4, 5, 6, 7, 8, 9]
    assert report["saved"] and report["rows"] == 6 and report["label"] == "failure"
    assert report["streams"]["cam_high"]["stale"] == 3 and report["streams"]["cam_low"]["stale"] == 0
    assert report["late_rows"] == 0


def test_an_unsettled_row_is_taken_when_patience_ends(tmp_path):
    source = HandDriven()
    take = source.take(tmp_path, settle_s=0.1)
    source.now_ns = START_NS
    assert take.advance() is None and take.rows == 0
    source.now_ns = START_NS + DT_NS + 99_999_999
    assert take.advance() is None and take.rows == 0
    source.now_ns += 1
    assert take.advance() is None and take.rows == 1 and take.late_rows == 1
    take.start()
    assert rows_of(take.stop(Ending("operator"))["path"]) == [0]


def test_a_simulated_clock_that_runs_ahead_does_not_cost_frames(tmp_path):
    source, wall_ns = HandDriven(), [0]
    take = source.take(tmp_path, settle_s=0.1, steady_ns=lambda: wall_ns[0])
    for tick in range(40):  # 0.8 s of simulated time in no wall time at all
        source.now_ns = START_NS + tick * DT_NS
        assert take.advance() is None and take.rows == 0
    wall_ns[0] = DT_NS + 100_000_000
    assert take.advance() is None and take.rows == take.late_rows == 40 - 6
    source.settled_ns = START_NS + 39 * DT_NS
    assert take.advance() is None and take.rows == 40 and take.late_rows == 34
    take.start()
    take.stop(Ending("operator"))


def test_stop_takes_the_finished_rows_still_unsettled(tmp_path):
    source = HandDriven()
    source.settled = lambda t_ns: False  # streams have not moved on, but the actions are there
    take = source.take(tmp_path, settle_s=10.0)
    source.settled_ns = START_NS + 5 * DT_NS
    source.now_ns = START_NS + 4 * DT_NS  # row 4 is not over yet
    take.start()
    assert rows_of(take.stop(Ending("operator"))["path"]) == [0, 1, 2, 3]


def test_max_rows_ends_and_saves(tmp_path):
    source, reports = HandDriven(), []
    take = source.take(tmp_path, max_rows=7, on_done=reports.append)
    source.settled_ns = START_NS + 100 * DT_NS
    take.start()
    wait_until(lambda: reports)
    assert rows_of(tmp_path / "episode_0.hdf5") == list(range(7))
    assert reports[0]["end_reason"] == "7 rows recorded (max_rows)"


def test_clock_set_back_ends_and_saves(tmp_path):
    source, reports = HandDriven(), []
    take = source.take(tmp_path, on_done=reports.append)
    source.settled_ns = START_NS + 4 * DT_NS
    take.start()
    wait_until(lambda: take.rows == 5)
    source.now_ns = 0
    wait_until(lambda: reports)
    assert reports[0]["end_reason"] == "the clock was set back"
    assert rows_of(reports[0]["path"]) == [0, 1, 2, 3, 4]


def test_a_clock_that_leaps_ahead_makes_no_rows_out_of_nothing(tmp_path):
    source, reports = HandDriven(), []
    source.now_ns = 0  # a simulated clock that has not begun
    take = source.take(tmp_path, on_done=reports.append)
    take.start()
    source.problems = {"command": "nothing received"}
    source.now_ns = START_NS + DT_NS
    source.settled_ns = START_NS + 4 * DT_NS
    wait_until(lambda: take._next_ns > source.settled_ns)
    source.problems = {}
    source.settled_ns += 5 * DT_NS
    wait_until(lambda: take.rows == 5)
    source.now_ns += 3600 * 1_000_000_000
    wait_until(lambda: reports)
    assert reports[0]["end_reason"] == "the clock leapt ahead by 3600 s"
    assert rows_of(reports[0]["path"]) == [5, 6, 7, 8, 9]


def test_stamps_ahead_of_the_clock_make_no_rows_and_hang_nothing(tmp_path):
    """The wall's time in the messages, use_sim_time in the recorder, and no /clock."""
    source = HandDriven()
    source.problems = {"cam_low": "stamped by another clock"}
    source.settled = source.has_action = lambda t_ns: True
    take = source.take(tmp_path)
    source.now_ns = START_NS
    take.start()
    wait_until(lambda: take.waiting_for == "waiting for cam_low: stamped by another clock")
    source.problems = {}
    report = take.stop(Ending("operator"))
    assert report["rows"] == 0


def test_a_disk_that_cannot_keep_up_ends_the_episode_with_every_queued_row(tmp_path):
    source, reports = HandDriven(header()), []
    frames = row(0, source.head).images
    source.row = lambda t_ns: (
        replace(row(0, HEAD), stamp_ns=t_ns, images=frames),
        {},
    )  # faster than any disk
    take = source.take(tmp_path, queue_rows=5, on_done=reports.append)
    source.settled_ns = START_NS + 400 * DT_NS
    take.start()
    wait_until(lambda: reports)
    assert reports[0]["end_reason"].startswith("the disk cannot keep up: 5 rows") and reports[0]["saved"]
    rows = rows_of(reports[0]["path"])
    assert rows == list(range(len(rows))) and len(rows) == take.rows >= 5


def test_an_error_of_ours_saves_what_is_there(tmp_path, capsys):
    source, reports = HandDriven(), []
    take = source.take(tmp_path, on_done=reports.append)
    source.settled_ns = START_NS + 2 * DT_NS
    take.start()
    wait_until(lambda: take.rows == 3)
    source.row = lambda t_ns: 1 / 0
    source.settled_ns += DT_NS
    wait_until(lambda: reports)
    assert "ZeroDivisionError" in reports[0]["end_reason"] and "ZeroDivisionError" in capsys.readouterr().err
    assert rows_of(reports[0]["path"]) == [0, 1, 2]


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_recorder_take import HandDriven, START_NS, DT_NS, wait_until
from recorder_episodes import header
head = header(48, 64)  # 36,864 bytes of frames a row
source, reports = HandDriven(head), []
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
take = source.take(sys.argv[1], on_done=reports.append)
take.start()
source.settled_ns = START_NS + 9 * DT_NS
wait_until(lambda: take.writer.flushed_rows == 10)
source.settled_ns = START_NS + 60 * DT_NS
wait_until(lambda: reports)
print(reports[0]["rows"], reports[0]["path"], reports[0]["end_reason"])
"""


def test_a_write_that_fails_ends_the_episode_and_keeps_what_was_written(tmp_path):
    args = [sys.executable, "-c", LIMITED, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    rows, path, reason = done.stdout.split(maxsplit=2)
    assert "cannot" in reason and "File too large" in reason
    head = header(48, 64)
    with EpisodeReader(path) as episode:
        assert len(episode) == int(rows) >= 10  # more, if it took so long that there was another flush
        for t in range(len(episode)):
            expected = row(t, head)
            np.testing.assert_array_equal(episode.action[t], expected.action)
            np.testing.assert_array_equal(episode.images("cam_low")[t], expected.images["cam_low"])


def test_nothing_recorded_leaves_no_episode(tmp_path):
    take = HandDriven().take(tmp_path)
    take.start()
    assert "the clock: it stands at 20.000 s" in take.waiting_for
    report = take.stop(Ending("operator"))
    assert "the clock: it stands" in report["end_reason"]
    assert not report["saved"] and report["rows"] == 0 and not list(tmp_path.glob("episode_*"))


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EpisodeError, match="cannot write episodes here"):
        HandDriven().take(tmp_path / "file")


def test_valid_after_all(tmp_path):
    source = HandDriven()
    take = source.take(tmp_path)
    source.settled_ns = START_NS + 80 * DT_NS
    take.start()
    wait_until(lambda: take.rows == 81)
    take.checkpoint = "aloha-1 3f2a"
    path = take.stop(Ending("operator"))["path"]
    assert problems(path) == []
    with EpisodeReader(path) as episode:
        assert episode.attributes["checkpoint"] == "aloha-1 3f2a"


def wait_until(condition, deadline_s=60.0):
    ended = threading.Event()
    for _ in range(int(deadline_s / 0.002)):
        if condition():
            return
        ended.wait(0.002)
    raise AssertionError("not in time")
