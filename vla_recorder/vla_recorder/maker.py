"""Makes the takes of a recorder node: rows out of its streams, a header out of its parameters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node

from vla_recorder.episode.layout import EpisodeError, EpisodeHeader
from vla_recorder.header import episode_header
from vla_recorder.provenance import software
from vla_recorder.rows import RigRows
from vla_recorder.streams import Streams
from vla_recorder.take import DISK_RESERVE_BYTES, Take
from vla_recorder.texts import Texts
from vla_rig.rig import Rig


class TakeMaker:
    """`rows`, `texts` and `before`, the (received, lost) messages of each stream until then, are the newest take's.

    Raises JointError when actions are to come from leaders that the rig does not have.
    """

    def __init__(self, node: Node, rig: Rig, streams: Streams) -> None:
        self._node, self._rig, self._streams = node, rig, streams
        self._software = software()
        self.checkpoint = ""  # identity of the policy that commands now, if one does
        self.texts = Texts("")
        self.rows: RigRows | None = None
        self.before: dict[str, tuple[int, int]] = {}
        self._new_rows(self.texts)

    def make(self, folder: Path, instruction: str, on_done: Callable[[Take, dict], None]) -> Take:
        """A take that is not started yet. Raises EpisodeError when the folder cannot be written, or has no room."""
        _refuse_full_disk(folder)
        texts = Texts(instruction, self._value("substeps"))
        rows = self._new_rows(texts)

        def done(report: dict) -> None:
            self._add_counts(take, before, report)
            on_done(take, report)

        take = Take(
            folder,
            self._header(instruction, rows),
            rows,
            self._now_ns,
            on_done=done,
            settle_s=self._value("settle_s"),
            max_rows=self._value("max_rows"),
            queue_rows=self._value("queue_rows"),
        )
        before = {name: (count.received, count.lost) for name, count in self._streams.counts().items()}
        self.rows, self.texts, self.before = rows, texts, before
        return take

    def _add_counts(self, take: Take, before: dict[str, tuple[int, int]], report: dict) -> None:
        """How often messages came during a take, and how many were lost on their way, for its report.

        `before` is the take's own: the next one may have begun.
        """
        elapsed_s, counts = take.elapsed_s(), self._streams.counts()
        for name, stream in report["streams"].items():
            received, lost = before[name]
            stream["lost"] = counts[name].lost - lost
            if elapsed_s > 0:  # else the clock was set back
                stream["rate_hz"] = (counts[name].received - received) / elapsed_s

    def _new_rows(self, texts: Texts) -> RigRows:
        leaders = self._streams.leaders_beside(self._now_ns())
        inputs, commands = self._streams.inputs, self._streams.commands
        return RigRows(self._rig, inputs, commands, self._value("action_from"), leaders, texts)

    def _header(self, instruction: str, rows: RigRows) -> EpisodeHeader:
        rig, sim = self._rig, self._value("sim")
        if self._value("use_sim_time") and not sim:
            self._node.get_logger().warning(
                "use_sim_time is set, but the episode says sim: false (parameter 'sim')"
            )
        return episode_header(
            rig,
            rows,
            instruction=instruction,
            sim=sim,
            action_from=self._value("action_from"),
            checkpoint=self.checkpoint,
            software=self._software,
            image_form=self._value("image_form"),
            jpeg_quality=self._value("jpeg_quality"),
            jpeg_colour=self._value("jpeg_colour"),
        )

    def _value(self, parameter: str):
        return self._node.get_parameter(parameter).value

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds


def _refuse_full_disk(folder: Path) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot be asked how much room is left: {error}") from error
    if free < DISK_RESERVE_BYTES:
        raise EpisodeError(
            f"{folder}: {free >> 20} MB left on the disk, {DISK_RESERVE_BYTES >> 20} MB of them are kept to finish "
            "episodes; make room or choose another folder"
        )
