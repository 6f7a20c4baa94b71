"""The streams of a rig as they come out of a bag: what `RigInputs` and `CommandInput` are to a live graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_msgs.msg import RigCommand
from vla_recorder.commands import COMMAND, CommandHistory, command_problem
from vla_rig.align import Aligner, Sample, StreamLimits
from vla_rig.inputs import StreamCount, stamp_ns
from vla_rig.rig import Rig

HISTORY_S = 3.0  # of bag time: streams may be written out of step
Report = Callable[[str], None]


class BagStream:
    """One topic of the bag and where its messages go."""

    def __init__(self, name: str, topic: str, kind: type, report: Report) -> None:
        self.name, self.topic, self.kind = name, topic, kind
        self.count = StreamCount(topic)
        self._report = report

    @property
    def type_name(self) -> str:
        """As a bag writes it: sensor_msgs/msg/Image."""
        return f"{self.kind.__module__.split('.')[0]}/msg/{self.kind.__name__}"

    def add(self, data: bytes, store: Callable[[int, object], str]) -> None:
        """Store one serialised message; `store` returns why it cannot be used, or nothing."""
        self.count.received += 1
        try:
            message = deserialize_message(bytes(data), self.kind)
        except RuntimeError:  # RMWError; its text differs from message to message
            self.reject("is damaged: cannot be deserialised")
            return
        at_ns = stamp_ns(message.header.stamp)
        problem = "header.stamp is zero" if at_ns == 0 else store(at_ns, message)
        if problem:
            self.reject(problem)

    def reject(self, reason: str) -> None:
        """Count a message that cannot be used; a reason is reported when it is new."""
        self.count.rejected += 1
        if self.count.reason != reason:
            self._report(f"{self.name} ({self.topic}): {reason}")
        self.count.reason = reason


class BagInputs:
    """Cameras and joint sources, for `RigRows`."""

    def __init__(
        self,
        rig: Rig,
        cameras: Iterable[str],
        sources: Iterable[str],
        topic_of: Callable[[str], str],
        report: Report,
    ) -> None:
        """`topic_of` turns a topic of the rig file into the bag's; `report` is told of unusable messages."""
        limits = {n: rig.cameras[n] for n in cameras} | {n: rig.joint_sources[n] for n in sources}
        self.aligner = Aligner(
            {n: StreamLimits(stream.max_age_s, 1 / stream.rate_hz) for n, stream in limits.items()},
            rig.max_skew_s,
            HISTORY_S,
        )
        self.streams = {
            n: BagStream(n, topic_of(stream.topic), _kind(rig, n), report) for n, stream in limits.items()
        }
        self.counts = {n: stream.count for n, stream in self.streams.items()}

    def add(self, name: str, data: bytes) -> None:
        def push(at_ns: int, message: object) -> str:
            stored = self.aligner.push(name, at_ns, message)
            return "" if stored else "stamp is not later than the previous one"

        self.streams[name].add(data, push)

    def reject(self, name: str, reason: str) -> None:
        self.streams[name].reject(reason)

    def sample(self, t_ns: int) -> Sample:
        return self.aligner.sample(t_ns)


class BagCommands:
    """The stream of commands, for `RigRows`."""

    def __init__(self, rig: Rig, topic_of: Callable[[str], str], report: Report) -> None:
        self.history = CommandHistory(capacity=round(HISTORY_S * rig.control_rate_hz))
        self.streams = {COMMAND: BagStream(COMMAND, topic_of(COMMAND), RigCommand, report)}
        self.count, self._names = self.streams[COMMAND].count, rig.action_names

    def add(self, name: str, data: bytes) -> None:
        self.streams[name].add(data, self._push)

    def _push(self, at_ns: int, message: RigCommand) -> str:
        problem = command_problem(message, self._names)
        if not problem and not self.history.push(at_ns, message):
            return "stamp is not later than the previous one (do two nodes command this rig?)"
        return problem


def _kind(rig: Rig, name: str) -> type:
    if name not in rig.cameras:
        return JointState
    return CompressedImage if rig.cameras[name].message == "compressed" else Image
