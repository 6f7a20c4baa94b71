"""The quality of service of every topic, said once."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def best_effort(depth: int) -> QoSProfile:
    """For subscribing to sensors: matches drivers of either reliability."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def reliable(depth: int) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)


SENSOR = best_effort(10)
COMMAND = reliable(1)
"""A stale command must never queue behind a fresh one."""
RECORD = reliable(50)
"""`command`, the record of what was asked and sent: every message counts."""
STATUS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Latched: who comes late still learns the present state."""
