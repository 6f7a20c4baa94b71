"""Rows of an episode out of a rig's live streams: the `RowSource` of a take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_recorder.commands import COMMAND, IN_FORCE_PERIODS, CommandInput
from vla_recorder.episode.layout import NO_STAMP, Row
from vla_recorder.texts import Texts
from vla_rig.align import Sample, too_old
from vla_rig.images import ImageError, camera_image
from vla_rig.inputs import RigInputs
from vla_rig.joints import (
    JointError,
    VectorReader,
    effort_reader,
    leader_reader,
    state_reader,
    velocity_reader,
)
from vla_rig.rig import Rig


@dataclass(frozen=True)
class _Part:
    """The columns of one vector that one joint source fills: a dead arm must not hide the other one."""

    vector: str
    source: str
    columns: list[int]
    reader: VectorReader


@dataclass(frozen=True)
class _Frame:
    """The frame in use of one camera: of message `stamp_ns`, or older than the unusable message `seen_ns`."""

    seen_ns: int
    stamp_ns: int
    image: np.ndarray | None
    problem: str = ""


class RigRows:
    """Makes rows for one take: qpos, qvel, effort and frames at t, and the action that answered them.

    Streams are the rig's cameras, the joint sources of its state (with `action_from` "leader" also those of the
    leaders), those of `leaders`, and `command`. What is missing, stale or unusable is NaN (an image: the last frame)
    and not fresh. `late` counts per stream the messages that came after the row of their time was made.

    Raises JointError when the rig has no leader for some action, and leaders are asked for.
    """

    def __init__(
        self,
        rig: Rig,
        inputs: RigInputs,
        commands: CommandInput,
        action_from: str,
        leaders: RigInputs | None = None,
        texts: Texts | None = None,
    ) -> None:
        """`leaders` are recorded beside the action (`leader`); `texts` gives each row what was being done."""
        self._rig, self._inputs, self._commands = rig, inputs, commands
        self._leaders, self._texts = leaders, texts
        self._from_leader = action_from == "leader"
        self._period_ns = round(1e9 / rig.control_rate_hz)
        counts = {**inputs.counts, **(leaders.counts if leaders else {}), COMMAND: commands.count}
        self.stream_names = list(counts)
        self.stream_topics = [count.topic for count in counts.values()]
        self.late = dict.fromkeys(self.stream_names, 0)
        self._column = {name: i for i, name in enumerate(self.stream_names)}
        self._parts = _parts(rig, self._from_leader or leaders is not None)
        self._frames: dict[str, _Frame] = {}
        self._last_ns: int | None = None
        self._last_stamps = np.full(len(self.stream_names), NO_STAMP, np.int64)

    @property
    def leader(self) -> bool:
        """Whether rows have the leader beside the action."""
        return self._leaders is not None

    def settled(self, t_ns: int) -> bool:
        return self._inputs.aligner.settled(t_ns) and self.has_action(t_ns)

    def has_action(self, t_ns: int) -> bool:
        newest_ns = self._commands.history.newest_ns
        if newest_ns is None:
            return self._from_leader
        return newest_ns >= t_ns

    def row(self, t_ns: int) -> tuple[Row, dict[str, str]]:
        """The row of grid time t_ns, and per stream what is wrong with it. Rows are asked for in order of time.

        Messages that only earlier rows needed are let go of: what waits for the disk must not be held besides.
        """
        sample = self._sample(t_ns)
        problems = _stale(sample)
        stamps = np.full(len(self.stream_names), NO_STAMP, np.int64)
        for name, at_ns in sample.stamps_ns.items():
            stamps[self._column[name]] = at_ns
        images = {name: self._image(name, sample, stamps, problems) for name in self._rig.cameras}
        vectors = self._vectors(sample, problems)
        command = self._command(t_ns, stamps, problems)
        requested, sent = self._command_vectors(command)
        row = Row(
            stamp_ns=t_ns,
            qpos=vectors["qpos"],
            qvel=vectors["qvel"],
            effort=vectors["effort"],
            action=vectors["leader"] if self._from_leader else requested,
            command=sent,
            images={name: image for name, image in images.items() if image is not None},
            stream_stamps_ns=stamps,
            fresh=np.array([name not in problems for name in self.stream_names]),
            repeated=(stamps == self._last_stamps) & (stamps != NO_STAMP),
            command_source=command.source if command else "none",
            interventions=list(command.interventions) if command else [],
            substep=self._texts.at(t_ns) if self._texts else "",
            leader=vectors["leader"] if self.leader else None,
        )
        self._count_late(t_ns, stamps)
        self._inputs.aligner.forget_before(t_ns)
        if self._from_leader and command is None:
            problems.pop(COMMAND)  # not needed for a row, only marked in it
        return row, problems

    def _sample(self, t_ns: int) -> Sample:
        sample = self._inputs.sample(t_ns)
        if self._leaders is not None:
            leaders = self._leaders.sample(t_ns)
            sample.values.update(leaders.values)
            sample.stamps_ns.update(leaders.stamps_ns)
            sample.stale.extend(leaders.stale)
        return sample

    def _count_late(self, t_ns: int, stamps: np.ndarray) -> None:
        """A message that is used for the first time, though it is older than the row before, came too late for that."""
        if self._last_ns is not None:
            late = (stamps != self._last_stamps) & (stamps != NO_STAMP) & (stamps <= self._last_ns)
            late[self._column[COMMAND]] = False  # a command answers a row, and comes after it
            for column in np.flatnonzero(late):
                self.late[self.stream_names[column]] += 1
        self._last_ns, self._last_stamps = t_ns, stamps

    def _image(
        self, name: str, sample: Sample, stamps: np.ndarray, problems: dict[str, str]
    ) -> np.ndarray | None:
        """The frame at t; the last good one when this one cannot be used; None before the first."""
        if name in sample.values:
            self._decode(name, sample.stamps_ns[name], sample.values[name])
        frame = self._frames.get(name)
        if frame is None:
            return None  # the sample says so already
        if frame.problem:
            problems[name] = frame.problem
        stamps[self._column[name]] = frame.stamp_ns
        return frame.image

    def _decode(self, name: str, at_ns: int, message) -> None:
        """Each message is decoded once, however many rows use it."""
        frame = self._frames.get(name)
        if frame is not None and frame.seen_ns == at_ns:
            return
        try:
            image = camera_image(self._rig.cameras[name], message)
            self._frames[name] = _Frame(at_ns, at_ns, image)
        except ImageError as error:
            self._inputs.reject(name, str(error))
            last = (frame.stamp_ns, frame.image) if frame else (NO_STAMP, None)
            self._frames[name] = _Frame(at_ns, *last, problem=str(error))

    def _vectors(self, sample: Sample, problems: dict[str, str]) -> dict[str, np.ndarray]:
        S, A = len(self._rig.state), len(self._rig.action)
        sizes = {"qpos": S, "qvel": S, "effort": S, "leader": A}
        vectors = {vector: np.full(size, np.nan, np.float32) for vector, size in sizes.items()}
        broken: dict[str, str] = {}
        for part in self._parts:
            if part.source in problems:
                continue
            try:
                vectors[part.vector][part.columns] = part.reader.read(sample.values)
            except JointError as error:
                broken[part.source] = str(error)
                owner = self._inputs if part.source in self._inputs.counts else self._leaders
                owner.reject(part.source, str(error))
        problems.update(broken)
        return vectors

    def _command(self, t_ns: int, stamps: np.ndarray, problems: dict[str, str]):
        """The command in force for t, or None with the reason in problems."""
        answer = self._commands.history.answer(t_ns, self._period_ns)
        if answer is None:
            problems[COMMAND] = "nothing received"
            return None
        stamps[self._column[COMMAND]] = answer[0]
        age_s, limit_s = (t_ns - answer[0]) * 1e-9, IN_FORCE_PERIODS * self._period_ns * 1e-9
        if age_s > limit_s:
            problems[COMMAND] = too_old(age_s, limit_s)
            return None
        return answer[1]

    def _command_vectors(self, command) -> tuple[np.ndarray, np.ndarray]:
        if command is None:
            return (np.full(len(self._rig.action), np.nan, np.float32),) * 2
        return np.asarray(command.requested, np.float32), np.asarray(command.sent, np.float32)


def _stale(sample: Sample) -> dict[str, str]:
    """Stream -> reason, out of the aligner's "name: reason" texts."""
    return dict(text.split(": ", 1) for text in sample.stale)


def _parts(rig: Rig, with_leader: bool) -> list[_Part]:
    readers: Mapping = {"qpos": state_reader, "qvel": velocity_reader, "effort": effort_reader}
    parts = []
    for source in dict.fromkeys(channel.source for channel in rig.state):
        columns = [i for i, channel in enumerate(rig.state) if channel.source == source]
        of_source = rig.model_copy(update={"state": [rig.state[i] for i in columns]})
        parts += [_Part(vector, source, columns, make(of_source)) for vector, make in readers.items()]
    if with_leader:
        leader_reader(rig)  # says which action has no leader
        for source in rig.leader_sources:
            columns = [i for i, channel in enumerate(rig.action) if channel.leader.source == source]
            of_source = rig.model_copy(update={"action": [rig.action[i] for i in columns]})
            parts.append(_Part("leader", source, columns, leader_reader(of_source)))
    return parts
