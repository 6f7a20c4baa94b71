"""Ticks on real time, on a simulated /clock, over stops and restarts."""

import threading
from itertools import pairwise

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from support.processes import wait_until

from vla_rig.ticker import Ticker

PERIOD_NS = 20_000_000


class Heart:
    """A node with a ticker thread; `ticks` are the times it gave."""

    def __init__(self, domain_id: int, sim: bool) -> None:
        self.context, self.ticks = Context(), []
        rclpy.init(context=self.context, domain_id=domain_id)
        simulated = Parameter("use_sim_time", value=sim)
        self.node = rclpy.create_node("heart", context=self.context, parameter_overrides=[simulated])
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.ticker = Ticker(self.node, 50.0)
        self.beat = threading.Thread(target=self._collect, daemon=True)
        self.spin = threading.Thread(target=self._spin, daemon=True)
        self.beat.start()
        self.spin.start()

    def _collect(self) -> None:
        for tick_ns in self.ticker:
            self.ticks.append(tick_ns)

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except ExternalShutdownException:
            return

    def close(self) -> None:
        self.context.try_shutdown()
        self.beat.join(10.0)
        self.spin.join(10.0)
        assert not self.beat.is_alive(), "shutdown ends the loop"


@pytest.fixture
def heart(domain_id):
    hearts = []

    def make(sim: bool) -> Heart:
        hearts.append(Heart(domain_id, sim))
        return hearts[-1]

    yield make
    for one in hearts:
        one.close()


@pytest.fixture
def set_clock(graph):
    publisher = graph.publisher(Clock, "/clock")

    def at(t_ns: int, node) -> None:
        def arrived() -> bool:  # the first ones may come before the subscription is matched
            publisher.publish(Clock(clock=Time(nanoseconds=t_ns).to_msg()))
            return node.get_clock().now().nanoseconds == t_ns

        wait_until(arrived, f"node clock at {t_ns}")

    return at


def test_real_time_ticks_are_increasing_multiples_of_the_period(heart):
    beating = heart(sim=False)
    wait_until(lambda: len(beating.ticks) >= 30, "30 ticks")
    ticks = list(beating.ticks)
    assert all(t % PERIOD_NS == 0 for t in ticks)
    assert all(a < b for a, b in pairwise(ticks))


def start_ticking(beating, set_clock, k: int) -> int:
    """Sets the clock to tick k and on until ticks come; the tick at which it stands then, the last that was given.

    The ticker's thread may take a while to see that the clock has begun anew, and goes on from where it is then.
    """
    before = len(beating.ticks)
    while len(beating.ticks) == before:
        set_clock(k * PERIOD_NS, beating.node)
        k += 1
    wait_until(lambda: beating.ticks[-1] == (k - 1) * PERIOD_NS, f"tick {k - 1}")
    return k - 1


def test_simulated_time_gives_each_tick_once_waits_when_stopped_and_restarts(heart, set_clock):
    beating = heart(sim=True)
    first = start_ticking(beating, set_clock, 1000)
    for k in range(first + 1, first + 11):
        set_clock(k * PERIOD_NS, beating.node)
        wait_until(lambda k=k: beating.ticks[-1] == k * PERIOD_NS, f"tick {k}")
    assert beating.ticks[-11:] == [k * PERIOD_NS for k in range(first, first + 11)]
    stood = len(beating.ticks)
    set_clock((first + 10) * PERIOD_NS + 1, beating.node)  # between ticks: none
    back = start_ticking(beating, set_clock, 2)  # set back: goes on from there
    assert all(2 * PERIOD_NS < t <= back * PERIOD_NS for t in beating.ticks[stood:]) and back < 1000
    stood = len(beating.ticks)
    ahead = start_ticking(beating, set_clock, 5000)  # leaps ahead: no storm of old ticks
    assert all(5000 * PERIOD_NS <= t <= ahead * PERIOD_NS for t in beating.ticks[stood:])


def test_stop_ends_the_loop_while_the_clock_stands(heart):
    beating = heart(sim=True)
    beating.ticker.stop()
    beating.beat.join(10.0)
    assert not beating.beat.is_alive() and beating.ticks == []


def test_a_slow_loop_skips_and_counts(heart, set_clock):
    beating = heart(sim=True)
    first = start_ticking(beating, set_clock, 1000)
    given, missed = len(beating.ticks), beating.ticker.missed
    for k in (first + 6, first + 7):
        set_clock(k * PERIOD_NS, beating.node)
        wait_until(lambda k=k: beating.ticks[-1] == k * PERIOD_NS, "in step again")
    given, missed = len(beating.ticks) - given, beating.ticker.missed - missed
    assert missed >= 3 and given + missed == 7, "each tick is given or counted"
    assert len(set(beating.ticks)) == len(beating.ticks)
