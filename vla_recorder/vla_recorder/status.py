"""The recorder's status topic, out of the running or last take."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping

from vla_msgs.msg import EpisodeStatus, StreamStatus
from vla_recorder.take import DISK_RESERVE_BYTES, Take, bytes_per_row


def status_message(
    take: Take | None, streams: list[StreamStatus], received_before: Mapping[str, int], fault: str
) -> EpisodeStatus:
    """`received_before` is each stream's count at the start of the take; `fault` says why none can be made."""
    message = EpisodeStatus(state=EpisodeStatus.STATE_IDLE, streams=streams, disk_left_min=math.nan)
    if take is not None:
        _describe(take, message)
        _count(take, streams, received_before)
    if fault:
        message.state, message.reason = EpisodeStatus.STATE_FAULT, fault
    return message


def _describe(take: Take, message: EpisodeStatus) -> None:
    message.episode_index = take.writer.index
    message.instruction, message.rows = take.header.instruction, take.rows
    message.queue_fill, message.disk_left_min = take.queue_fill, _disk_left_min(take)
    message.elapsed_s = take.elapsed_s()
    if take.done:
        message.path, message.reason = take.report["path"], take.report["end_reason"]
        return
    message.path = str(take.writer.final_path)
    message.state = EpisodeStatus.STATE_SAVING if take.saving else EpisodeStatus.STATE_RECORDING
    problems = "; ".join(f"{stream}: {text}" for stream, text in take.problems.items())
    message.reason = take.waiting_for or problems


def _count(take: Take, streams: list[StreamStatus], received_before: Mapping[str, int]) -> None:
    tallies = take.tally.streams()
    for stream in streams:
        stream.received -= received_before[stream.name]
        stream.repeated = tallies[stream.name]["repeated"]
        stream.stale = tallies[stream.name]["stale"]
        if not take.done:
            stream.reason = take.problems.get(stream.name, "")


def _disk_left_min(take: Take) -> float:
    try:
        free = shutil.disk_usage(take.writer.folder).free - DISK_RESERVE_BYTES
    except OSError:
        return math.nan
    return max(0.0, free / (bytes_per_row(take.header) * take.header.control_rate_hz * 60))
