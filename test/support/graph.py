"""A test's own node in the graph under test, spun by a thread."""

from __future__ import annotations

import threading

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from support.processes import DEADLINE_S, wait_until
from support.services import until_known


class Graph:
    """Publishes, listens and calls services in one ROS domain. Use as a context manager."""

    def __init__(self, domain_id: int, name: str = "test_graph") -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.node = rclpy.create_node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        self.context.try_shutdown()

    def publisher(self, kind, topic: str, qos=10):
        return self.node.create_publisher(kind, topic, qos)

    def listen(self, kind, topic: str, qos=10) -> list:
        """A list that grows by every message of the topic."""
        received: list = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def call(self, kind, service: str, request=None, deadline_s: float = DEADLINE_S):
        """The response of a service; AssertionError when there is none by the deadline."""
        client = self.node.create_client(kind, service)
        try:
            wait_until(client.service_is_ready, f"service {service}", deadline_s)
            until_known(self.node, service.rpartition("/")[0], wait_until)
            future = client.call_async(request if request is not None else kind.Request())
            wait_until(future.done, f"answer of {service}", deadline_s)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def topics(self) -> set[str]:
        return {name for name, _ in self.node.get_topic_names_and_types()}
