"""A control loop's heartbeat on the node clock: ticks at exact multiples of the period."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node

_JUMP_NS = 1_000_000_000
_POLL_S = 0.1
"""How soon a shutdown is noticed."""


class Ticker:
    """Iterates over tick times in ns, on real or simulated time, until stop() or the context's shutdown.

    Run it in its own thread while an executor spins the node (simulated time needs that). Ticks
    that the loop comes too late for are skipped and counted in `missed`. A clock that is set back,
    or leaps ahead, starts a new sequence; one that stands still is waited for.

    rclpy's Clock.sleep_until is not used: it registers one more shutdown callback with each call
    and never removes it (rclpy 7.1), and it sleeps through a simulated clock that is set back.
    """

    def __init__(self, node: Node, rate_hz: float) -> None:
        self._clock, self._context = node.get_clock(), node.context
        self._period_ns = round(1e9 / rate_hz)
        self.missed = 0
        self._stopped = False
        self._moved = threading.Condition()
        self._restarted = False
        self._seen = (self._clock.ros_time_is_active, 0)

    def stop(self) -> None:
        """End the iteration, from any thread."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()

    def __iter__(self) -> Iterator[int]:
        any_change = JumpThreshold(
            min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        with self._clock.create_jump_callback(any_change, post_callback=self._on_jump):
            yield from self._ticks()

    def _ticks(self) -> Iterator[int]:
        tick_ns = self._next_after(self._clock.now().nanoseconds)
        while self._context.ok() and not self._stopped:
            reached = self._wait_until(tick_ns)
            now_ns = self._clock.now().nanoseconds
            if not reached or abs(now_ns - tick_ns) > _JUMP_NS:
                tick_ns = self._next_after(now_ns)
                continue
            yield tick_ns
            late = max(0, (self._clock.now().nanoseconds - tick_ns) // self._period_ns - 1)
            self.missed += late
            tick_ns += (1 + late) * self._period_ns

    def _on_jump(self, _jump) -> None:
        # Simulated time moves by jumps only; real time has none but the switch to or from it.
        with self._moved:
            before, self._seen = self._seen, (self._clock.ros_time_is_active, self._clock.now().nanoseconds)
            self._restarted |= before[0] != self._seen[0] or self._seen[1] < before[1]
            self._moved.notify_all()

    def _wait_until(self, tick_ns: int) -> bool:
        """True when the clock has come to tick_ns; False when it was restarted or at shutdown."""
        with self._moved:
            while self._context.ok() and not (self._restarted or self._stopped):
                left_s = (tick_ns - self._clock.now().nanoseconds) * 1e-9
                if left_s <= 0:
                    return True
                self._moved.wait(_POLL_S if self._clock.ros_time_is_active else min(_POLL_S, left_s))
            self._restarted = False
        return False

    def _next_after(self, now_ns: int) -> int:
        return (now_ns // self._period_ns + 1) * self._period_ns
