"""EveryMessage over real DDS: what it asks for, and what it gets, from publishers of either reliability."""

import contextlib

import pytest
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Int64
from support.graph import Graph
from support.processes import wait_until

from vla_rig import qos
from vla_rig.subscribe import EveryMessage, silence

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


@pytest.fixture
def listener(domain_id):
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(Graph(domain_id, "listener"))


def asked(graph):
    return [
        info.qos_profile.reliability
        for info in graph.node.get_subscriptions_info_by_topic("/numbers")
        if info.node_name == "listener"
    ]


def flows(publisher, received, number):
    """Publishes `number` until it arrives."""
    wait_until(lambda: publisher.publish(Int64(data=number)) or number in received, f"{number} to arrive")


@pytest.mark.parametrize(
    ("offered", "expected"), [(qos.reliable(5), RELIABLE), (qos.best_effort(5), BEST_EFFORT)]
)
def test_the_subscription_follows_what_is_offered(graph, listener, offered, expected):
    received = []
    EveryMessage(listener.node, Int64, "numbers", lambda m: received.append(m.data), 10)
    wait_until(lambda: asked(graph) == [RELIABLE], "the reliable subscription")
    publisher = graph.publisher(Int64, "numbers", offered)
    flows(publisher, received, 1)
    wait_until(lambda: asked(graph) == [expected], f"the subscription to be {expected}")


def test_a_best_effort_publisher_that_comes_later_is_heard_beside_the_reliable_one(graph, listener, capfd):
    received, said = [], []
    subscription = EveryMessage(listener.node, Int64, "numbers", lambda m: received.append(m.data), 10)
    first = graph.publisher(Int64, "numbers", qos.reliable(5))
    flows(first, received, 1)
    second = graph.publisher(Int64, "numbers", qos.best_effort(5))
    flows(second, received, 2)
    flows(first, received, 3)
    wait_until(lambda: asked(graph) == [BEST_EFFORT], "the new subscription to be known")
    text = "numbers: /test_graph offers best effort"
    wait_until(lambda: text in (said.append(capfd.readouterr().err) or "".join(said)), text)
    subscription.close()
    wait_until(lambda: asked(graph) == [], "the subscription to go")


def test_silence_says_who_publishes_what(graph, listener):
    assert silence(listener.node, "eye", Image) == "nobody publishes it"
    graph.publisher(CompressedImage, "eye")
    wait_until(lambda: "test_graph" in silence(listener.node, "eye", Image), "discovery")
    text = silence(listener.node, "eye", Image)
    assert text == "/test_graph publishes sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image"
    listener.publisher(Image, "eye")  # one participant has one type for a topic
    wait_until(lambda: silence(listener.node, "eye", Image) == "", "discovery of the second publisher")
