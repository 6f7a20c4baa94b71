"""Arms for tests: publishes a rig's joint states, followers go where they are told."""

import threading

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty

from vla_rig.sinks import decode, message_class


class Arms:
    """Leaders at `leader` (A,) in raw units, followers tracking commands; 50 Hz until close().

    `ticks` counts what has come back to this node: many ticks later, what had arrived before them has been taken in.
    """

    def __init__(self, graph, rig) -> None:
        self.rig, self.ticks, self.commands = rig, 0, []
        self.silent: set[str] = set()
        self.leader = {s: dict.fromkeys(rig.joint_sources[s].joints, 0.2) for s in rig.leader_sources}
        self.follower = {s: dict.fromkeys(rig.joint_sources[s].joints, 0.0) for s in rig.follower_sources}
        self._clock = graph.node.get_clock()
        self._publishers = {n: graph.publisher(JointState, s.topic) for n, s in rig.joint_sources.items()}
        for name, sink in rig.sinks.items():
            feedback = {c.joint: c.feedback for c in rig.action if c.sink == name}
            graph.node.create_subscription(
                message_class(sink.message), sink.topic, self._follow(sink, feedback), 10
            )
        self._tick = graph.publisher(Empty, "arms/tick")
        graph.node.create_subscription(Empty, "arms/tick", self._count, 10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _follow(self, sink, feedback):
        def follow(message) -> None:
            raw = decode(sink, "position", message)
            self.commands.append((sink.topic, raw))
            for joint, value in raw.items():
                self.follower[feedback[joint].source][feedback[joint].joint] = value

        return follow

    def _count(self, _message) -> None:
        self.ticks += 1

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            stamp = self._clock.now().to_msg()
            for name, joints in (*self.leader.items(), *self.follower.items()):
                if name not in self.silent:
                    message = JointState(name=list(joints), position=list(joints.values()))
                    message.header.stamp = stamp
                    self._publishers[name].publish(message)
            self._tick.publish(Empty())

    def reached(self) -> bool:
        """Every arm joint of the followers is where its leader is (grippers have other ranges)."""
        pairs = [
            (self.leader[c.leader.source][c.leader.joint], self.follower[c.feedback.source][c.feedback.joint])
            for c in self.rig.action
            if c.range is None
        ]
        return np.allclose(*zip(*pairs, strict=True), atol=1e-5)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)
