"""Stamped rings and sample(t): what was known about every stream at a moment.

Policy node and recorder use this same code, so what is learned from is what is acted on.
No ROS here: stamps are int64 nanoseconds of one clock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CLOCK_RESET_NS = 5_000_000_000
"""A stamp this far behind the newest means that the source's clock was restarted."""


_ANOTHER_CLOCK_S = 1e6


def of_another_clock(age_s: float) -> bool:
    """No message of a stream that lives is eleven days old, or that far ahead."""
    return abs(age_s) > _ANOTHER_CLOCK_S


def too_old(age_s: float, limit_s: float) -> str:
    """Why a message of this age is of no use, in words."""
    if of_another_clock(age_s):
        ago = f"{age_s:.0f} s ago" if age_s > 0 else f"{-age_s:.0f} s from now"
        return f"stamped by another clock ({ago}): is use_sim_time right?"
    return f"{age_s:.3f} s old, limit {limit_s:g} s"


class Stamped(NamedTuple):
    """A message and its stamp."""

    stamp_ns: int
    value: Any


@dataclass(frozen=True)
class StreamLimits:
    """What is expected of one stream."""

    max_age_s: float
    period_s: float
    """Nominal time between messages."""


@dataclass(frozen=True)
class Sample:
    """The newest message of every stream at or before t_ns; streams without one are absent."""

    t_ns: int
    values: dict[str, Any] = field(default_factory=dict)
    stamps_ns: dict[str, int] = field(default_factory=dict)
    ages_s: dict[str, float] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    """Streams that are missing or too old: "cam_high: nothing received", "cam_low: 0.310 s old, limit 0.1 s"."""
    skewed: list[str] = field(default_factory=list)
    """Streams that lag too far behind the others."""

    @property
    def problems(self) -> list[str]:
        """Every reason not to act on this sample."""
        return self.stale + self.skewed

    @property
    def ok(self) -> bool:
        return not self.problems


class StampedRing:
    """The last `capacity` messages of one stream, in the order of their stamps."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Stamped] = deque(maxlen=capacity)

    def push(self, stamp_ns: int, value: Any) -> bool:
        """Store a message; False when its stamp is not later than the newest one (late or repeated)."""
        if self._items:
            behind_ns = self._items[-1].stamp_ns - stamp_ns
            if behind_ns > CLOCK_RESET_NS:
                self._items.clear()
            elif behind_ns >= 0:
                return False
        self._items.append(Stamped(stamp_ns, value))
        return True

    def at(self, t_ns: int) -> Stamped | None:
        """The newest message stamped at or before t_ns, or None."""
        for item in reversed(self._items):
            if item.stamp_ns <= t_ns:
                return item
        return None

    def forget_before(self, t_ns: int) -> None:
        while len(self._items) > 1 and self._items[1].stamp_ns <= t_ns:
            self._items.popleft()

    def clear(self) -> None:
        self._items.clear()

    @property
    def oldest_ns(self) -> int | None:
        return self._items[0].stamp_ns if self._items else None

    @property
    def newest_ns(self) -> int | None:
        return self._items[-1].stamp_ns if self._items else None


class Aligner:
    """One ring per stream and a common view of them. Thread-safe: callbacks push, workers sample and wait."""

    def __init__(self, limits: Mapping[str, StreamLimits], max_skew_s: float, history_s: float = 1.0) -> None:
        self.limits = dict(limits)
        self.max_skew_s = max_skew_s
        self._rings = {
            n: StampedRing(max(4, round(history_s / lim.period_s))) for n, lim in self.limits.items()
        }
        self._changed = threading.Condition()  # its lock is reentrant: conditions may call back

    def push(self, name: str, stamp_ns: int, value: Any) -> bool:
        with self._changed:
            stored = self._rings[name].push(stamp_ns, value)
            self._changed.notify_all()
        return stored

    def sample(self, t_ns: int) -> Sample:
        """What was known at t_ns, and every reason not to act on it (missing, too old, too far apart)."""
        sample = Sample(t_ns)
        with self._changed:
            picks = {name: ring.at(t_ns) for name, ring in self._rings.items()}
        for name, pick in picks.items():
            if pick is None:
                sample.stale.append(f"{name}: {self._absent(name, t_ns)}")
                continue
            age_s, limit_s = (t_ns - pick.stamp_ns) * 1e-9, self.limits[name].max_age_s
            sample.values[name], sample.stamps_ns[name] = pick.value, pick.stamp_ns
            sample.ages_s[name] = age_s
            if age_s > limit_s:
                sample.stale.append(f"{name}: {too_old(age_s, limit_s)}")
        if sample.stamps_ns and sample.ok:
            oldest, newest = min(sample.stamps_ns, key=sample.stamps_ns.get), max(sample.stamps_ns.values())
            skew_s = (newest - sample.stamps_ns[oldest]) * 1e-9
            if skew_s > self.max_skew_s:
                sample.skewed.append(
                    f"{oldest}: {skew_s:.3f} s behind the newest stream, limit {self.max_skew_s:g} s"
                )
        return sample

    def _absent(self, name: str, t_ns: int) -> str:
        with self._changed:
            oldest_ns = self._rings[name].oldest_ns
        if oldest_ns is None:
            return "nothing received"
        ahead_s = (oldest_ns - t_ns) * 1e-9
        if of_another_clock(ahead_s):
            return too_old(-ahead_s, 0.0)
        return f"nothing as old as t; the oldest stamp is {ahead_s:.3f} s later (are the clocks in step?)"

    def forget_before(self, t_ns: int) -> None:
        """Let go of every message that no sample at t_ns or later can have."""
        with self._changed:
            for ring in self._rings.values():
                ring.forget_before(t_ns)

    def clear(self) -> None:
        """Forget everything, for a clock that was set back."""
        with self._changed:
            for ring in self._rings.values():
                ring.clear()
            self._changed.notify_all()

    def newest_ns(self, name: str) -> int | None:
        with self._changed:
            return self._rings[name].newest_ns

    def complete_ns(self) -> int | None:
        """The latest time whose sample is final: the oldest of the streams' newest stamps.

        None before all began.
        """
        with self._changed:
            newest = [ring.newest_ns for ring in self._rings.values()]
        return None if not newest or None in newest else min(newest)

    def missing(self, t_ns: int) -> list[str]:
        """Streams whose message due by t_ns (one period back) is not there yet."""
        with self._changed:
            return [n for n, ring in self._rings.items() if not self._due(ring, n, t_ns)]

    def _due(self, ring: StampedRing, name: str, t_ns: int) -> bool:
        # Half a millisecond of slack: stamps of a periodic stream are not exact multiples of its period.
        return (
            ring.newest_ns is not None and ring.newest_ns > t_ns - self.limits[name].period_s * 1e9 + 500_000
        )

    def settled(self, t_ns: int) -> bool:
        """True when every stream has a message later than t_ns: sample(t_ns) can no longer change."""
        with self._changed:
            return all(ring.newest_ns is not None and ring.newest_ns > t_ns for ring in self._rings.values())

    def wait_for(self, condition: Callable[[Aligner], bool], timeout_s: float) -> bool:
        """Block until condition(self) holds after some push; False after timeout_s of wall time."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout_s)
