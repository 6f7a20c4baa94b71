"""Fixtures of all packages: a ROS domain of the test's own, processes that never outlive it."""

import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "test"))

from support.processes import Process

from vla_bringup.shm import remove_leftovers
from vla_bringup.transports import transport_environment

os.environ.update(transport_environment("shared_memory", os.environ))

# The same examples in every run, and none that fails because the machine was busy.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


@pytest.fixture
def domain_id():
    """A ROS_DOMAIN_ID that no other test of this machine uses meanwhile.

    Drawn at random: the lowest free one would have been left a moment ago, perhaps by killed
    processes, whose peers new ones keep trying to reach.
    """
    domain_coordinator = pytest.importorskip("domain_coordinator")
    with domain_coordinator.domain_id(lambda: random.SystemRandom().randint(1, 100)) as number:
        yield number
    remove_leftovers()  # of killed processes: they hold 16 MB of shared memory each


@pytest.fixture
def spawn(domain_id):
    """Starts processes in the domain of the test (command, then environment by keyword) and ends them."""
    started = []

    def start(command: list[str], **environment: str) -> Process:
        process = Process(command, os.environ | {"ROS_DOMAIN_ID": str(domain_id)} | environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def graph(domain_id):
    """A node of the test's own in its domain: graph.publisher, graph.listen, graph.call."""
    from support.graph import Graph

    with Graph(domain_id) as own:
        yield own
