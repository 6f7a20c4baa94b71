"""Subscribing so that every message arrives, whatever reliability its publisher offers."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from vla_rig import qos

_NAMES_KNOWN_S = 1.0
"""A publisher is discovered before the name of its node is."""


class EveryMessage:
    """A subscription that is reliable until a publisher turns up that is not, and best effort from then on.

    A reliable subscription receives nothing from a best-effort publisher. A best-effort one receives from both,
    but does not ask again for what was lost: over Fast DDS's default transports 4 x 480x640 at 50 Hz lost 1098 of
    1600 frames that way, 4 of 1600 when reliable (a reliable publisher on the same machine). Where nothing is lost
    on the way, as through shared memory, both are alike.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable,
        depth: int,
        on_lost: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """`on_lost` is told how many more messages the middleware reports as lost."""
        self._node, self._kind, self._topic, self._callback, self._depth = node, kind, topic, callback, depth
        self._on_lost = on_lost
        self._subscription = self._subscribe(ReliabilityPolicy.RELIABLE)

    def _subscribe(self, reliability: ReliabilityPolicy):
        profile = qos.reliable if reliability == ReliabilityPolicy.RELIABLE else qos.best_effort
        events = SubscriptionEventCallbacks(
            incompatible_qos=self._on_incompatible,
            message_lost=lambda info: self._on_lost(info.total_count_change),
        )
        return self._node.create_subscription(
            self._kind, self._topic, self._callback, profile(self._depth), event_callbacks=events
        )

    def _on_incompatible(self, _info) -> None:
        # Only the reliability can clash: we ask for nothing else.
        if self._subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT:
            return
        self._node.destroy_subscription(self._subscription)
        self._subscription = self._subscribe(ReliabilityPolicy.BEST_EFFORT)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._teller = self._node.create_timer(_NAMES_KNOWN_S, self._tell, clock=steady)

    def _tell(self) -> None:
        self._node.destroy_timer(self._teller)
        names = [
            _full_name(info)
            for info in publishers(self._node, self._topic)
            if info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        ]
        self._node.get_logger().info(
            f"{self._topic}: {', '.join(names) or 'a publisher'} offers best effort, so that messages lost on the way "
            "are not sent again"
        )

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)


def publishers(node: Node, topic: str) -> list:
    """What the graph knows about a topic's publishers (rclpy TopicEndpointInfo)."""
    return node.get_publishers_info_by_topic(node.resolve_topic_name(topic))


def silence(node: Node, topic: str, kind: type) -> str:
    """Why nothing of type `kind` comes on a topic, as far as the graph tells; empty when it does not."""
    found = publishers(node, topic)
    if not found:
        return "nobody publishes it"
    expected = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
    others = [info for info in found if info.topic_type != expected]
    if len(others) == len(found):
        return f"{_full_name(others[0])} publishes {others[0].topic_type}, expected {expected}"
    return ""


def _full_name(info) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
