"""The recorder's status topic, out of its session."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from vla_msgs.msg import EpisodeStatus, StreamStatus
from vla_recorder.rows import RigRows
from vla_recorder.session import Session, State
from vla_recorder.take import DISK_RESERVE_BYTES, Take
from vla_recorder.texts import Texts
from vla_rig.rig import Rig

_STATES = {
    State.IDLE: EpisodeStatus.STATE_IDLE,
    State.COUNTDOWN: EpisodeStatus.STATE_COUNTDOWN,
    State.RECORDING: EpisodeStatus.STATE_RECORDING,
    State.SAVING: EpisodeStatus.STATE_SAVING,
}

_ROWS_TO_JUDGE = 50


def status_message(
    session: Session,
    rows: RigRows | None,
    texts: Texts,
    streams: list[StreamStatus],
    before: Mapping[str, tuple[int, int]],
    disk_left_min: float,
    fault: str,
) -> EpisodeStatus:
    """`rows` and `texts` are those of the session's take, `before` what each stream had received and lost by then.

    `fault` says why nothing can be recorded.
    """
    message = EpisodeStatus(state=_STATES[session.state], streams=streams, disk_left_min=disk_left_min)
    message.saved, message.discarded = session.saved, session.discarded
    message.instruction, message.countdown_s = session.instruction, session.countdown_s
    if session.take is not None:
        _describe(session.take, message)
        _count(session.take, rows, streams, before)
        if session.state is State.RECORDING:
            message.substep = texts.substep
    if session.last is not None:
        _describe_last(session.last, message)
    if fault and session.state is State.IDLE:
        message.state, message.reason = EpisodeStatus.STATE_FAULT, fault
    return message


def _describe(take: Take, message: EpisodeStatus) -> None:
    message.episode_index = take.writer.index
    message.rows, message.late_rows = take.rows, take.late_rows
    message.queue_fill, message.elapsed_s = take.queue_fill, take.elapsed_s()
    report = take.report
    if report is not None:
        message.path, message.reason = report["path"], report["end_reason"]
        return
    message.path = str(take.writer.final_path)
    problems = "; ".join(f"{stream}: {text}" for stream, text in take.problems.items())
    message.reason = take.waiting_for or problems


def _describe_last(report: dict, message: EpisodeStatus) -> None:
    message.last_path, message.last_label = report["path"], report["label"]
    message.last_verdict = report["quality"]["verdict"]
    message.last_reasons = report["quality"]["reasons"]


def _count(
    take: Take, rows: RigRows, streams: list[StreamStatus], before: Mapping[str, tuple[int, int]]
) -> None:
    tallies = take.tally.streams()
    for stream in streams:
        if stream.name not in tallies:
            continue  # leaders that came after the take had begun
        received, lost = before[stream.name]
        stream.received, stream.lost = stream.received - received, stream.lost - lost
        stream.repeated = tallies[stream.name]["repeated"]
        stream.stale = tallies[stream.name]["stale"]
        stream.late = rows.late.get(stream.name, 0)  # a new take's rows come a moment before it
        if not take.done:
            problem = take.problems.get(stream.name, "")
            if not stream.reason.startswith(problem) or not problem:  # else the stream knows more about it
                stream.reason = problem


def disk_left_min(folder: Path, rig: Rig, image_form: str, take: Take | None) -> float:
    """Minutes of recording that fit on the disk, by the size of `take`'s rows if it has enough; NaN when unknown."""
    row_bytes = math.nan
    if image_form == "raw":
        row_bytes = 3.0 * sum(camera.height * camera.width for camera in rig.cameras.values())
    try:
        if take is not None and take.writer.rows >= _ROWS_TO_JUDGE:
            row_bytes = take.writer.path.stat().st_size / take.writer.rows
        free = shutil.disk_usage(folder).free - DISK_RESERVE_BYTES
    except OSError:
        return math.nan
    left_min = free / (row_bytes * rig.control_rate_hz * 60)
    return left_min if math.isnan(left_min) else max(0.0, left_min)
