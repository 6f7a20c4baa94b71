"""Fixtures of all packages: a ROS domain of the test's own, processes that never outlive it."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "test"))

from support.processes import Process

LARGE_DATA = "LARGE_DATA?max_msg_size=2MB&sockets_size=2MB"
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", LARGE_DATA)


@pytest.fixture
def domain_id():
    """A ROS_DOMAIN_ID that no other test of this machine uses meanwhile."""
    domain_coordinator = pytest.importorskip("domain_coordinator")
    with domain_coordinator.domain_id() as number:
        yield number


@pytest.fixture
def spawn(domain_id):
    """Start a Process in the test's domain: spawn(command, NAME="value"). All are killed at the end."""
    started = []

    def start(command: list[str], **environment: str) -> Process:
        process = Process(command, os.environ | {"ROS_DOMAIN_ID": str(domain_id)} | environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def graph(domain_id):
    """A node of the test's own in its domain: graph.publisher, graph.listen, graph.call."""
    from support.graph import Graph

    with Graph(domain_id) as own:
        yield own
