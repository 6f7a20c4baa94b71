"""Rows between the threads of a take: bounded, in order, encoded meanwhile; and takes that end because of it."""

import errno
import gc
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from recorder_disk import small_disk
from recorder_episodes import CAMERAS, DT_NS, header, row
from test_recorder_take import START_NS, HandDriven, rows_of, wait_until

from vla_recorder.backlog import Backlog
from vla_recorder.episode import images
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import recover
from vla_recorder.episode.validate import problems
from vla_recorder.take import Ending

HEAD = header(height=12, width=16)
JPEG = header(height=12, width=16, image_form="jpeg")
FRAME = 12 * 16 * 3


def made(t):
    return row(t, HEAD)


def test_rows_and_bytes_are_bounded_whichever_is_reached_first():
    by_rows = Backlog(max_rows=3, max_bytes=1 << 20)
    assert [by_rows.put(made(t)) for t in range(4)] == [True, True, True, False]
    assert by_rows.fill == 1.0 and by_rows.why_full().startswith("the disk cannot keep up: 3 rows")
    assert by_rows.get(0.0).stamp_ns == 0 and by_rows.fill == pytest.approx(2 / 3)
    by_bytes = Backlog(max_rows=100, max_bytes=8 * FRAME)
    assert [by_bytes.put(made(t)) for t in range(3)] == [True, True, False]
    assert by_bytes.fill == 1.0
    assert Backlog(max_rows=100, max_bytes=1).put(made(0))  # one row always fits


def test_a_frame_that_rows_share_counts_once():
    backlog, first = Backlog(max_rows=100, max_bytes=8 * FRAME), made(0)
    assert all(backlog.put(replace(made(t), images=dict(first.images))) for t in range(50))
    assert backlog.put(made(50)) and not backlog.put(made(51))


def test_order_is_kept_and_nothing_is_encoded_twice():
    encoded, lock = [], threading.Lock()

    def encode(image):
        with lock:
            encoded.append(int(image[0, 0, 0]))
            wait_s = 0.002 * (len(encoded) % 3)  # some take longer than those after them
        time.sleep(wait_s)
        return bytes(image[0, 0, :1])

    backlog = Backlog(max_rows=100, max_bytes=1 << 20, encode=encode)
    for t in range(30):
        same = made(t - t % 2)  # each frame serves two rows
        if t % 2 == 0:
            shared = same.images
        assert backlog.put(replace(same, stamp_ns=t, images=dict(shared)))
    backlog.end()
    rows = []
    while not backlog.drained:
        rows.append(backlog.get(1.0))
    backlog.close()
    assert [found.stamp_ns for found in rows] == list(range(30))
    assert [found.images["cam_low"][0] for found in rows] == [t - t % 2 for t in range(30)]
    assert len(encoded) == 15 * len(CAMERAS) and backlog.fill == 0.0


def test_encoded_frames_count_as_what_they_are():
    backlog = Backlog(max_rows=100, max_bytes=8 * FRAME, encode=lambda image: b"x")
    for t in range(40):
        wait_until(lambda t=t: backlog.put(made(t)))
    assert backlog.fill < 1.0
    backlog.end()
    backlog.close()


def test_a_frame_that_cannot_be_encoded_is_an_error_of_its_row_alone():
    backlog = Backlog(max_rows=9, max_bytes=1 << 20, encode=lambda image: 1 // int(image[0, 0, 0] != 1))
    with mock.patch.object(backlog, "_work", lambda item, image: b"%d" % (1 // int(image[0, 0, 0] != 1))):
        for t in range(3):
            backlog.put(made(t))
    assert backlog.get(1.0).stamp_ns == 0
    with pytest.raises(EpisodeError, match=r"a frame cannot be encoded: ZeroDivisionError"):
        backlog.get(1.0)
    assert backlog.get(1.0).stamp_ns == 2 * DT_NS
    backlog.end()
    assert backlog.get(0.0) is None and backlog.drained
    backlog.close()


def test_a_take_writes_jpeg_in_order_with_its_quality(tmp_path):
    source = HandDriven(JPEG)
    take = source.take(tmp_path)
    come_to(source, 59)
    take.start()
    wait_until(lambda: take.rows == 60)
    take.instruction = "something else"
    report = take.stop(Ending("operator", label="success"))
    assert rows_of(report["path"]) == list(range(60)) and take.queue_fill == 0.0
    assert problems(report["path"], every_frame=True) == []
    with EpisodeReader(report["path"]) as episode:
        for t in range(60):
            expected = row(t, JPEG).images["cam_low"]
            assert np.abs(episode.images("cam_low")[t].astype(int) - expected).max() <= 4
        assert episode.quality == report["quality"] and episode.quality["rows"] == 60
        assert episode.instruction == "something else" == report["instruction"]
        assert set(episode.substeps) == {JPEG.instruction}  # what rows were told at their time


def test_encoders_that_cannot_keep_up_end_the_episode_with_every_queued_row(tmp_path):
    source, reports, go_on = HandDriven(JPEG), [], threading.Event()
    real = images.encode

    def slow(*args):
        assert go_on.wait(60.0)
        return real(*args)

    with mock.patch.object(images, "encode", slow):
        take = source.take(tmp_path, queue_rows=5, on_done=reports.append)
        source.settled_ns = START_NS + 400 * DT_NS
        take.start()
        wait_until(lambda: take.saving)
        go_on.set()
        wait_until(lambda: reports)
    assert reports[0]["end_reason"].startswith("JPEG encoding cannot keep up: 5 rows") and reports[0]["saved"]
    assert rows_of(reports[0]["path"]) == list(range(5)) and take.rows == 5


def come_to(source, t):
    """Row t is settled, and it is its time."""
    source.now_ns = source.settled_ns = START_NS + t * DT_NS


def running(folder, head=HEAD):
    """A take with 20 rows, whose next 30 are queued when the test says so."""
    source, reports = HandDriven(head), []
    take = source.take(folder, on_done=reports.append)
    come_to(source, 19)
    take.start()
    wait_until(lambda: take.writer.rows == 20)
    return source, take, reports


@pytest.mark.parametrize("head", [HEAD, JPEG], ids=["raw", "jpeg"])
def test_a_removed_folder_ends_the_take_which_saves_all_of_it_again(tmp_path, head):
    source, take, reports = running(tmp_path / "folder", head)
    shutil.rmtree(tmp_path / "folder")
    come_to(source, 49)
    wait_until(lambda: reports)
    assert "was removed while it was written" in reports[0]["end_reason"] and reports[0]["saved"]
    rows = rows_of(reports[0]["path"])
    assert rows == list(range(take.rows)) and len(rows) >= 20 and problems(reports[0]["path"]) == []


def test_a_disk_that_is_nearly_full_ends_the_take_with_every_queued_row(tmp_path):
    with small_disk(tmp_path / "disk", 330 << 10) as folder:
        source, take, reports = running(folder)
        come_to(source, 79)
        wait_until(lambda: take.rows == 80)
        with open(folder / "ballast", "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, 100 << 20)
        come_to(source, 140)
        wait_until(lambda: reports)
        assert reports[0]["end_reason"] == "the disk is nearly full" and reports[0]["saved"]
        assert rows_of(reports[0]["path"]) == list(range(take.rows))
        assert take.writer.wait_synced(60.0)


def test_a_disk_that_cannot_sync_ends_the_take_and_leaves_all_rows_to_recover(tmp_path):
    with mock.patch.object(os, "fdatasync", side_effect=OSError(errno.EIO, "Input/output error")):
        _, take, reports = running(tmp_path)
        wait_until(lambda: reports)
    assert "[Errno 5]" in reports[0]["end_reason"] and "episode recover" in reports[0]["end_reason"]
    assert not reports[0]["saved"] and reports[0]["path"].endswith(".partial")
    assert rows_of(recover(reports[0]["path"]).path) == list(range(take.rows))


@pytest.mark.parametrize("where", ["append", "close", "get"])
def test_a_fault_of_ours_in_the_writing_thread_does_not_hang_the_take(tmp_path, capsys, where):
    source, take, reports = running(tmp_path)
    broken = (take._backlog, "get") if where == "get" else (take.writer, where)
    with mock.patch.object(*broken, side_effect=ZeroDivisionError("ours")):
        come_to(source, 29)
        if where == "get":
            wait_until(lambda: take._write_problem)
        else:
            wait_until(lambda: take.rows >= 21)
            report = take.stop(Ending("operator"))
    report = take.stop(Ending("operator"))
    assert "internal error: ZeroDivisionError('ours')" in report["end_reason"]
    assert "ZeroDivisionError" in capsys.readouterr().err
    if where != "close":
        assert report["saved"] and rows_of(report["path"])[:20] == list(range(20))
        assert reports == [report]


def test_two_takes_in_one_folder_do_not_disturb_each_other(tmp_path):
    sources = [HandDriven(), HandDriven(JPEG)]
    takes = [source.take(tmp_path) for source in sources]
    for take in takes:
        take.start()
    for t in range(40):
        come_to(sources[t % 2], t)
    for source in sources:
        come_to(source, 40)
    wait_until(lambda: all(take.rows == 41 for take in takes))
    paths = [take.stop(Ending("operator"))["path"] for take in takes]
    assert [path.rsplit("/")[-1] for path in paths] == ["episode_0.hdf5", "episode_1.hdf5"]
    assert all(rows_of(path) == list(range(41)) and problems(path) == [] for path in paths)


@pytest.mark.parametrize("head", [HEAD, JPEG], ids=["raw", "jpeg"])
def test_hundreds_of_takes_leave_no_threads_files_or_memory_behind(tmp_path, head):
    def one(k):
        source = HandDriven(head)
        take = source.take(tmp_path)
        come_to(source, 4)
        take.start()
        wait_until(lambda: take.rows == 5)
        report = take.stop(Ending("operator", save=k % 3 > 0))
        take.writer.wait_synced(60.0)
        os.unlink(report["path"])

    def held():
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        return threading.active_count(), len(os.listdir("/proc/self/fd")), resident

    for k in range(30):
        one(k)
    before = held()
    for k in range(150):
        one(k)

    def none_left():  # threads take a moment to end
        return all(now <= then for now, then in zip(held()[:2], before[:2], strict=True))

    wait_until(none_left)
    after = held()
    assert after[2] - before[2] < 4 << 20, f"{(after[2] - before[2]) / 150:.0f} bytes a take"
