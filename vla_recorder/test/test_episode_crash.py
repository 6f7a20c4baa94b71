"""An episode cut off after each of its system calls: what was flushed survives a kill, what was synced a power cut."""

import os
import random
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from recorder_disk import RecordedDisk
from recorder_episodes import header, row

from vla_recorder.episode import journal, layout
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.recover import find_damaged, recover
from vla_recorder.episode.validate import problems
from vla_recorder.episode.writer import EpisodeWriter

FORMS = ("raw", "jpeg")


def small(form):
    return header(16, 24, image_form=form, cameras={"cam_low": (16, 24)})


def record(folder: Path, form: str) -> RecordedDisk:
    """Five rows, a flush after each, a sync now and then, and the end."""
    disk, head = RecordedDisk(folder), small(form)
    with disk.recording():
        writer = EpisodeWriter(folder, head)
        for t in range(5):
            writer.append(row(t, head))
            writer.flush()
            disk.note("flushed", t + 1)
            if t in (1, 3):
                writer.sync()
                disk.note("synced", t + 1)
        writer.close("operator", "success")
        disk.note("closed")
        assert writer.wait_synced(10.0)
        disk.note("synced", 5)
    return disk


def highest(disk, mark, count):
    """The greatest value of this mark among the first `count` calls; None where it is not there."""
    return max((call[1] for call in disk.calls[:count] if call[0] == mark), default=None)


def recovered_rows(folder: Path, form: str) -> int | None:
    """Recover what there is and check every row of it; None when there was nothing to be read yet."""
    for path in find_damaged(folder):
        try:
            recover(path)
        except EpisodeError as error:
            assert "cannot be recovered" in str(error)
            return None
    assert not list(folder.glob("*.journal")) and not list(folder.glob("*.partial"))
    if not (folder / "episode_0.hdf5").exists():
        return 0 if list(folder.glob("trash/*")) else None
    assert problems(folder / "episode_0.hdf5") == []
    check_rows(folder / "episode_0.hdf5", small(form))
    with EpisodeReader(folder / "episode_0.hdf5") as episode:
        assert episode.label == ("success" if episode.end_reason == "operator" else "none")
        assert episode.end_reason == "operator" or episode.end_reason.startswith("recovered")
        return len(episode)


def check_rows(path, head):
    with EpisodeReader(path) as episode:
        for t in range(len(episode)):
            expected = row(t, head)
            for name in ("qpos", "qvel", "action", "command"):
                np.testing.assert_array_equal(getattr(episode, name)[t], getattr(expected, name))
            frame = episode.images("cam_low")[t].astype(int)
            assert abs(frame - expected.images["cam_low"]).max() <= (0 if head.image_form == "raw" else 3)
            assert episode.interventions[t] == "; ".join(expected.interventions)
            assert episode.substeps[t] == head.instruction


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("torn", [0.0, 0.5])
def test_a_kill_after_any_system_call_keeps_what_was_flushed(tmp_path, form, torn):
    disk = record(tmp_path / "whole", form)
    assert len(disk.calls) > 150
    with mock.patch.object(os, "fdatasync"), mock.patch.object(os, "fsync"):
        for count in range(0, len(disk.calls) + 1):
            folder = tmp_path / str(count)
            folder.mkdir()
            disk.after_kill(count, folder, torn)
            flushed = highest(disk, "flushed", count)
            rows = recovered_rows(folder, form)
            assert flushed is None or rows >= flushed, f"after {count} calls: {rows} rows of {flushed}"


@pytest.mark.parametrize("form", FORMS)
def test_a_power_cut_at_any_time_keeps_what_was_synced(tmp_path, form):
    disk, rng = record(tmp_path / "whole", form), random.Random(7)
    after_reboot = mock.patch.object(journal, "_boot_id", lambda: b"of the next start")
    with after_reboot, mock.patch.object(os, "fdatasync"), mock.patch.object(os, "fsync"):
        counts = [*range(len(disk.calls)), *[len(disk.calls)] * 10]
        for number, count in enumerate(counts):
            folder = tmp_path / str(number)
            folder.mkdir()
            disk.after_power_cut(count, folder, rng)
            synced = highest(disk, "synced", count)
            rows = recovered_rows(folder, form)
            assert synced is None or rows >= synced, f"after {count} calls: {rows} rows of {synced}"
    with EpisodeReader(folder / "episode_0.hdf5") as episode:
        assert episode.label == "success"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [False, True])
def test_recovery_itself_can_be_cut_off_anywhere(tmp_path, form, power):
    disk = record(tmp_path / "whole", form)
    killed = max(at for at, call in enumerate(disk.calls) if call == ("flushed", 4))
    first = tmp_path / "first"
    first.mkdir()
    disk.after_kill(killed, first)
    again = RecordedDisk(first)
    for path in sorted(first.iterdir()):  # what is there already is part of the recording
        with again.recording():
            again.adopt(path)
    adopted = len(again.calls)
    with again.recording():
        recover(first / "episode_0.hdf5.partial")
    boot, rng = journal._boot_id(), random.Random(3)
    with (
        mock.patch.object(os, "fdatasync"),
        mock.patch.object(os, "fsync"),
        mock.patch.object(journal, "_boot_id", lambda: b"of the next start" if power else boot),
    ):
        for count in range(adopted, len(again.calls) + 1):
            folder = tmp_path / str(count)
            folder.mkdir()
            if power:
                again.after_power_cut(count, folder, rng)
            else:
                again.after_kill(count, folder, 0.5)
            rows = recovered_rows(folder, form)
            assert rows == 4 or (power and rows == 2 and count < len(again.calls))  # 2 were synced


def test_a_journal_that_was_damaged_gives_the_commits_before(tmp_path):
    disk = record(tmp_path / "whole", "raw")
    count = max(at for at, call in enumerate(disk.calls) if call == ("flushed", 5))
    disk.after_kill(count, tmp_path)
    path = layout.journal_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    commits = [at for at in range(len(content)) if content[at : at + 4] == b"COMT"]
    content[commits[3] + 200] ^= 1
    path.write_bytes(content)
    assert recovered_rows(tmp_path, "raw") == 2  # one commit is the empty file
