"""Everything a recorder listens to: cameras, followers, leaders, and the commands that answered them."""

from __future__ import annotations

from rclpy.node import Node

from vla_msgs.msg import StreamStatus
from vla_recorder.commands import COMMAND, CommandInput
from vla_rig.align import Sample
from vla_rig.inputs import RigInputs, StreamCount
from vla_rig.rig import Rig

HISTORY_S = 1.0  # how far back rows can be taken when the row thread was held up


class Streams:
    """The streams of a rig. `inputs` are those that every row needs.

    `leaders` are the leader arms where rows do not need them: they may be absent, as when a policy drives. None
    where the rig has none, or where /action is taken from them and they are part of `inputs`.
    """

    def __init__(self, node: Node, rig: Rig, action_from: str) -> None:
        needed = list(dict.fromkeys(channel.source for channel in rig.state))
        if action_from == "leader":
            needed += [source for source in rig.leader_sources if source not in needed]
        optional = [source for source in rig.leader_sources if source not in needed]
        listen = {"history_s": HISTORY_S, "every_message": True}
        self._rig = rig
        self.inputs = RigInputs(node, rig, cameras=rig.cameras, sources=needed, **listen)
        self.leaders = RigInputs(node, rig, sources=optional, **listen) if optional else None
        self.commands = CommandInput(node, rig)

    def counts(self) -> dict[str, StreamCount]:
        leaders = self.leaders.counts if self.leaders is not None else {}
        return {**self.inputs.counts, **leaders, COMMAND: self.commands.count}

    def leaders_beside(self, now_ns: int) -> RigInputs | None:
        """The leaders that rows do not need but can have: there is one for every action, and all were just heard."""
        mapped = all(channel.leader is not None for channel in self._rig.action)
        if self.leaders is None or not mapped:
            return None
        newest_ns = [self.leaders.aligner.newest_ns(name) for name in self.leaders.counts]
        heard = all(at_ns is not None and now_ns - at_ns < HISTORY_S * 1e9 for at_ns in newest_ns)
        return self.leaders if heard else None

    def status(self, now_ns: int) -> list[StreamStatus]:
        """One per stream; leaders that rows do not need only when they were heard."""
        leaders = self.leaders.status(now_ns) if self.leaders is not None else []
        heard = [stream for stream in leaders if stream.received]
        return [*self.inputs.status(now_ns), *heard, self.commands.status(now_ns)]

    def leader_sample(self, t_ns: int) -> Sample | None:
        """The leaders at t_ns; None when one is missing or too old."""
        names = self._rig.leader_sources
        sample = (self.leaders or self.inputs).sample(t_ns)
        stale = {text.split(": ", 1)[0] for text in sample.stale}
        return sample if names and stale.isdisjoint(names) else None
