"""Node `replay`: an episode's camera frames and joint states on the rig's topics, as if the rig were there."""

from __future__ import annotations

import time

from rclpy.time import Time

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.progress import bar
from vla_recorder.tools.replay.messages import CameraMessages, events, stream_messages
from vla_recorder.tools.replay.node import Replay
from vla_rig import qos
from vla_rig.rig import Rig

_LEAD_NS = 100_000_000  # between "listeners are there" and the first message
_SETTLED_S = 1.0  # discovery is over when the number of listeners has not changed for this long


class ObservationReplay(Replay):
    """Publishes every message that the rows used, once, in the order and at the distances of their stamps.

    Stamps are the node's clock. What was stale or missing in the recording is missing here. It begins when somebody
    listens, and refuses when somebody else publishes on one of the topics.
    """

    def __init__(self, episode: EpisodeReader, rig: Rig, speed: float) -> None:
        super().__init__()
        self.published = 0
        self._speed, self._row_s = speed, 1.0 / (episode.control_rate_hz or rig.control_rate_hz)
        self._episode, self._streams, self._outputs = episode, {}, {}
        for name, topic, messages in stream_messages(episode, rig):
            # reliable offers serve reliable and best-effort subscribers alike
            depth = 4 if isinstance(messages, CameraMessages) else 10
            self._streams[name] = messages
            self._outputs[name] = self.create_publisher(messages.kind, topic, qos.reliable(depth))
        missing = sorted(set(rig.cameras) - set(self._streams))
        if missing:
            self.get_logger().warning(
                f"{episode.path} has no {', '.join(missing)}: nothing is published there"
            )
        self.begin()

    def play(self) -> bool:
        schedule = events(self._episode, list(self._streams), self._row_s)
        if not schedule:
            raise EpisodeError(f"{self._episode.path}: has nothing to publish")
        if not self._wait_for_listeners():
            return False
        self._refuse_rivals()
        first_ns, start_ns, late_ns = schedule[0].stamp_ns, self.now_ns() + _LEAD_NS, 0
        with bar(len(schedule), "replay", "messages") as progress:
            for event in schedule:
                at_ns = start_ns + round((event.stamp_ns - first_ns) / self._speed)
                message = self._streams[event.stream].message(event.row, Time(nanoseconds=at_ns))
                if not self.wait_until(at_ns):
                    self.get_logger().info(f"stopped after {self.published} messages, at row {event.row}")
                    return False
                if message is not None:
                    self._outputs[event.stream].publish(message)
                    self.published += 1
                    late_ns = max(late_ns, self.now_ns() - at_ns)
                progress.update()
        seconds = (at_ns - start_ns) * 1e-9
        self.get_logger().info(
            f"replayed {self.published} messages in {seconds:.2f} s; the latest was {late_ns * 1e-6:.1f} ms late"
        )
        return True

    def _wait_for_listeners(self) -> bool:
        """False when stopped while waiting."""
        self.get_logger().info(f"waiting until somebody listens to {', '.join(self._topics())}")
        count, since_s = 0, time.monotonic()
        while not count or time.monotonic() - since_s < _SETTLED_S:
            if self.stopping.wait(0.05):
                return False
            now = sum(publisher.get_subscription_count() for publisher in self._outputs.values())
            if now != count:
                count, since_s = now, time.monotonic()
        return True

    def _topics(self) -> list[str]:
        return [publisher.topic_name for publisher in self._outputs.values()]

    def _refuse_rivals(self) -> None:
        taken = [topic for topic in self._topics() if self.count_publishers(topic) > 1]
        if taken:
            raise EpisodeError(
                f"somebody else publishes {', '.join(taken)} (a robot, or its simulator?): a policy that acts on both "
                "would be dangerous. Stop it, or replay under another namespace: --ros-args -r __ns:=/replayed"
            )
