"""A control loop's heartbeat on the node clock: ticks at exact multiples of the period."""

from __future__ import annotations

from collections.abc import Iterator

from rclpy.node import Node
from rclpy.time import Time

_JUMP_NS = 1_000_000_000


class Ticker:
    """Iterates over tick times in ns, on real or simulated time, until the context shuts down.

    Run it in its own thread while an executor spins the node (simulated time needs that). Ticks
    that the loop comes too late for are skipped and counted in `missed`.
    """

    def __init__(self, node: Node, rate_hz: float) -> None:
        self._clock, self._context = node.get_clock(), node.context
        self._period_ns = round(1e9 / rate_hz)
        self.missed = 0

    def __iter__(self) -> Iterator[int]:
        tick_ns = self._first_after(self._clock.now().nanoseconds)
        while self._context.ok():
            reached = self._clock.sleep_until(
                Time(nanoseconds=tick_ns, clock_type=self._clock.clock_type), self._context
            )
            now_ns = self._clock.now().nanoseconds
            if (
                not reached or abs(now_ns - tick_ns) > _JUMP_NS
            ):  # shut down, or the clock was switched or jumped
                tick_ns = self._first_after(now_ns)
                continue
            yield tick_ns
            now_ns = self._clock.now().nanoseconds
            late = max(0, (now_ns - tick_ns) // self._period_ns - 1)
            self.missed += late
            tick_ns += (1 + late) * self._period_ns

    def _first_after(self, now_ns: int) -> int:
        return (now_ns // self._period_ns + 1) * self._period_ns
