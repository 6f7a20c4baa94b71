"""A bag and the rig's topics in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw  # rosbags reads db3 with it, and lets its errors through
from rosbags.rosbag2 import Reader, ReaderError

from vla_recorder.bags.inputs import BagCommands, BagInputs, Report
from vla_recorder.commands import COMMAND
from vla_recorder.episode.layout import EpisodeError
from vla_rig.rig import Rig


class BagError(EpisodeError):
    """A bag cannot be read, or does not hold what the rig file asks for; the text names topic and expectation."""


class BagSource:
    """Hands every message of the rig's topics to the inputs.

    `inputs` are the streams that rows need, `commands` those of the gate, `leaders` the leader arms where rows do not
    need them but the bag has them all (else None). BagError names topics that are missing or of another type.
    """

    def __init__(self, bag: Path, rig: Rig, action_from: str, namespace: str, report: Report) -> None:
        self.bag = bag
        self._namespace, self._needs_command = namespace.strip("/"), action_from == "command"
        with self._reading() as reader:
            self._types = {connection.topic: connection.msgtype for connection in reader.connections}
        needed = list(dict.fromkeys(channel.source for channel in rig.state))
        if not self._needs_command:
            needed += [source for source in rig.leader_sources if source not in needed]
        self.inputs = BagInputs(rig, rig.cameras, needed, self._topic, report)
        self.commands = BagCommands(rig, self._topic, report)
        self.leaders = self._leaders(rig, needed, report)
        self._check()

    def feed(self) -> Iterator[tuple[int, float]]:
        """Yields the bag's time in ns and the share that is read, after each message is stored."""
        targets: dict[str, list] = {}
        for part in self._parts():
            for name, stream in part.streams.items():
                targets.setdefault(stream.topic, []).append((part, name))
        with self._reading() as reader:
            wanted = [connection for connection in reader.connections if connection.topic in targets]
            start, total = reader.start_time, max(1, reader.duration)
            for connection, log_ns, data in reader.messages(wanted):
                for part, name in targets[connection.topic]:
                    part.add(name, data)
                yield log_ns, (log_ns - start) / total

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Reader]:
        try:
            with Reader(self.bag) as reader:
                yield reader
        except (ReaderError, OSError, apsw.Error) as error:
            hint = "if it was cut short, `ros2 bag reindex` (db3) or `mcap recover` may mend it"
            raise BagError(f"{self.bag}: cannot be read: {error}; {hint}") from error

    def received(self) -> str:
        """How many messages of each stream were found."""
        counts = {name: stream.count for part in self._parts() for name, stream in part.streams.items()}
        return "; ".join(f"{name} ({count.topic}): {count.received}" for name, count in counts.items())

    def _parts(self) -> list[BagInputs | BagCommands]:
        return [part for part in (self.inputs, self.leaders, self.commands) if part is not None]

    def _topic(self, topic: str) -> str:
        if topic.startswith("/"):
            return topic
        return f"/{self._namespace}/{topic}" if self._namespace else f"/{topic}"

    def _leaders(self, rig: Rig, needed: list[str], report: Report) -> BagInputs | None:
        beside = [source for source in rig.leader_sources if source not in needed]
        mapped = all(channel.leader is not None for channel in rig.action)
        present = all(self._topic(rig.joint_sources[source].topic) in self._types for source in beside)
        return BagInputs(rig, (), beside, self._topic, report) if beside and mapped and present else None

    def _check(self) -> None:
        wrong = []
        for stream in (stream for part in self._parts() for stream in part.streams.values()):
            found = self._types.get(stream.topic)
            if found is None and (stream.name != COMMAND or self._needs_command):
                wrong.append(f"no topic {stream.topic} ({stream.type_name}) for {stream.name}")
            elif found not in (None, stream.type_name):
                wrong.append(f"{stream.topic} is {found}, expected {stream.type_name}")
        if wrong:
            listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(self._types.items()))
            raise BagError(f"{self.bag}: {'; '.join(wrong)}. The bag has: {listed}")
