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


def test_simulated_time_gives_each_tick_once_waits_when_stopped_and_restarts(heart, set_clock):
    beating = heart(sim=True)
    for k in range(1, 11):
        set_clock(k * PERIOD_NS, beating.node)
        wait_until(lambda k=k: len(beating.ticks) == k, f"tick {k}")
    assert beating.ticks == [k * PERIOD_NS for k in range(1, 11)]
    set_clock(10 * PERIOD_NS + 1, beating.node)  # between ticks: none
    set_clock(2 * PERIOD_NS, beating.node)  # set back: goes on from there
    set_clock(3 * PERIOD_NS, beating.node)
    wait_until(lambda: len(beating.ticks) == 11, "a tick after the restart")
    assert beating.ticks[10:] == [3 * PERIOD_NS]
    set_clock(500 * PERIOD_NS + 5, beating.node)  # leaps ahead: no storm of old ticks
    set_clock(501 * PERIOD_NS, beating.node)
    wait_until(lambda: 501 * PERIOD_NS in beating.ticks, "a tick after the leap")
    assert beating.ticks[11:] == [501 * PERIOD_NS]


def test_stop_ends_the_loop_while_the_clock_stands(heart):
    beating = heart(sim=True)
    beating.ticker.stop()
    beating.beat.join(10.0)
    assert not beating.beat.is_alive() and beating.ticks == []


def test_a_slow_loop_skips_and_counts(heart, set_clock):
    beating = heart(sim=True)
    set_clock(PERIOD_NS, beating.node)
    wait_until(lambda: len(beating.ticks) == 1, "first tick")
    set_clock(6 * PERIOD_NS, beating.node)
    wait_until(lambda: len(beating.ticks) >= 2, "late tick")
    set_clock(7 * PERIOD_NS, beating.node)
    wait_until(lambda: beating.ticks[-1] == 7 * PERIOD_NS, "in step again")
    assert len(set(beating.ticks)) == len(beating.ticks) and beating.ticker.missed == 3
