"""Waiting for one tick's commands: who answers, who is late, who has left."""

import threading
import time

import pytest

from vla_sim.lockstep import CommandInbox

FOREVER_S = 20.0
MOMENT_S = 0.05


@pytest.fixture
def inbox():
    inbox = CommandInbox(["left", "right"])
    inbox.begin(100)
    return inbox


def both():
    return ["left", "right"]


def test_nobody_commands_nothing_to_wait_for(inbox):
    assert inbox.wait(list, FOREVER_S) == []


def test_names_the_sinks_that_did_not_answer(inbox):
    inbox.put("left", "a", 100)
    assert inbox.wait(both, MOMENT_S) == ["right"]


@pytest.mark.parametrize("stamp_ns", [100, 150, None, 0], ids=["this tick", "later", "no stamp", "zero"])
def test_answers(inbox, stamp_ns):
    inbox.put("left", "a", stamp_ns)
    inbox.put("right", "b", 100)
    assert inbox.wait(both, FOREVER_S) == []


def test_a_late_answer_to_the_last_tick_does_not_answer_this_one(inbox):
    inbox.put("left", "late", 80)
    inbox.put("right", "b", 100)
    assert inbox.wait(both, MOMENT_S) == ["left"]
    assert inbox.take() == {"left": "late", "right": "b"}, "but it is still the newest command"
    assert inbox.take() == {}


def test_a_new_tick_needs_new_answers(inbox):
    for sink in both():
        inbox.put(sink, "a", None)
    inbox.begin(120)
    assert inbox.wait(both, MOMENT_S) == ["left", "right"]


def test_waits_for_the_executor_thread(inbox):
    def answer():
        for sink in both():
            inbox.put(sink, "a", 100)

    threading.Timer(0.02, answer).start()
    assert inbox.wait(both, FOREVER_S) == []


def test_a_commander_that_leaves_is_not_waited_for(inbox):
    here = both()
    threading.Timer(0.02, here.clear).start()
    begin_s = time.monotonic()
    assert inbox.wait(lambda: list(here), FOREVER_S) == []
    assert time.monotonic() - begin_s < FOREVER_S


def test_interrupt_ends_one_wait_only(inbox):
    inbox.interrupt()
    assert inbox.wait(both, FOREVER_S) == []
    assert inbox.wait(both, MOMENT_S) == both()
