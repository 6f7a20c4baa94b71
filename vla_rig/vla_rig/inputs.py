"""Subscribes to the streams of a rig and stores what arrives. Callbacks only store."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_msgs.msg import StreamStatus
from vla_rig import qos
from vla_rig.align import Aligner, Sample, StreamLimits, of_another_clock, too_old
from vla_rig.rig import Rig
from vla_rig.subscribe import EveryMessage, silence

REJECTION_SHOWN_NS = 5_000_000_000


def stamp_ns(stamp) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _input_qos(rate_hz: float, history_s: float) -> QoSProfile:
    """As deep as the history: an executor that had to wait for the processor must not cost messages."""
    return qos.best_effort(max(qos.SENSOR.depth, math.ceil(rate_hz * history_s)))


@dataclass
class StreamCount:
    """What happened on one stream since the start."""

    topic: str
    received: int = 0
    rejected: int = 0
    lost: int = 0
    reason: str = ""
    rejected_ns: int = 0
    recent_ns: deque = field(default_factory=lambda: deque(maxlen=256))

    def add_lost(self, number: int) -> None:
        self.lost += number

    def rate_hz(self, now_ns: int) -> float:
        """Messages in the last second of node time."""
        return float(sum(1 for t in tuple(self.recent_ns) if 0 <= now_ns - t < 1_000_000_000))


class RigInputs:
    """The input streams of a rig: `sample(t_ns)` gives messages, `counts` tells how each stream fares."""

    def __init__(
        self,
        node: Node,
        rig: Rig,
        cameras: Iterable[str] = (),
        sources: Iterable[str] = (),
        history_s: float = 1.0,
        every_message: bool = False,
    ) -> None:
        """`every_message`: take the best reliability that is offered, for whom a lost one is worse than a late one."""
        self._node, self._log, self._clock = node, node.get_logger(), node.get_clock()
        self.counts: dict[str, StreamCount] = {}
        limits = {n: rig.cameras[n] for n in cameras} | {n: rig.joint_sources[n] for n in sources}
        self.aligner = Aligner(
            {n: StreamLimits(s.max_age_s, 1.0 / s.rate_hz) for n, s in limits.items()},
            rig.max_skew_s,
            history_s,
        )
        # A simulation that starts again sets the clock back: what was stored belongs to another run.
        set_back = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        self._jumps = self._clock.create_jump_callback(
            set_back, post_callback=lambda _jump: self.aligner.clear()
        )
        self._kinds: dict[str, type] = {}
        self._closers = []
        for name, stream in limits.items():
            self.counts[name] = count = StreamCount(stream.topic)
            kind = JointState
            if name in rig.cameras:
                kind = CompressedImage if stream.message == "compressed" else Image
            self._kinds[name], callback = kind, self._store(name)
            profile = _input_qos(stream.rate_hz, history_s)
            if every_message:
                every = EveryMessage(node, kind, stream.topic, callback, profile.depth, count.add_lost)
                self._closers.append(every.close)
            else:
                subscription = node.create_subscription(kind, stream.topic, callback, profile)
                self._closers.append(partial(node.destroy_subscription, subscription))

    def _store(self, name: str):
        count, aligner = self.counts[name], self.aligner

        def store(message) -> None:
            at_ns = stamp_ns(message.header.stamp)
            count.received += 1
            count.recent_ns.append(self._now_ns())
            if at_ns == 0:
                self.reject(name, "header.stamp is zero; the driver must stamp its messages")
            elif not aligner.push(name, at_ns, message):
                self.reject(name, "stamp is not later than the previous one")

        return store

    def reject(self, name: str, reason: str) -> None:
        """Count a message that cannot be used and say why (at most every 5 s)."""
        count = self.counts[name]
        count.rejected += 1
        count.reason, count.rejected_ns = reason, self._now_ns()
        self._log.warning(f"{name} ({count.topic}): {reason}", throttle_duration_sec=5.0)

    def sample(self, t_ns: int) -> Sample:
        return self.aligner.sample(t_ns)

    def wait_due(self, t_ns: int, timeout_s: float) -> bool:
        """Block until every stream's message due by t_ns is there (lockstep); False after the wall timeout."""
        return self.aligner.wait_for(lambda a: not a.missing(t_ns), timeout_s)

    def status(self, now_ns: int) -> list[StreamStatus]:
        """One StreamStatus per stream, for status topics."""
        out = []
        for name, count in self.counts.items():
            newest_ns = self.aligner.newest_ns(name)
            age_s = float("nan") if newest_ns is None else (now_ns - newest_ns) * 1e-9
            out.append(
                StreamStatus(
                    name=name,
                    topic=count.topic,
                    received=count.received,
                    rejected=count.rejected,
                    lost=count.lost,
                    rate_hz=count.rate_hz(now_ns),
                    age_s=age_s,
                    reason=self._reason(name, age_s, now_ns),
                )
            )
        return out

    def _reason(self, name: str, age_s: float, now_ns: int) -> str:
        """What is wrong now; empty when healthy. A rejected message counts for REJECTION_SHOWN_NS."""
        count, limit_s = self.counts[name], self.aligner.limits[name].max_age_s
        if count.rejected and now_ns - count.rejected_ns < REJECTION_SHOWN_NS:
            return count.reason
        if not math.isnan(age_s) and age_s <= limit_s and not of_another_clock(age_s):
            return ""
        why = silence(self._node, count.topic, self._kinds[name])
        found = "nothing received" if math.isnan(age_s) else too_old(age_s, limit_s)
        return f"{found}: {why}" if why else found

    def _now_ns(self) -> int:
        return self._clock.now().nanoseconds

    def close(self) -> None:
        """Unsubscribe."""
        self._jumps.unregister()
        for close in self._closers:
            close()
