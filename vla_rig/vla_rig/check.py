"""Listen to a live graph and say whether it is the rig that the rig file describes."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import dataclass, field

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rich.console import Console
from rich.table import Table

from vla_msgs.msg import StreamStatus
from vla_rig import qos
from vla_rig.images import ImageError, to_rgb
from vla_rig.inputs import RigInputs
from vla_rig.rig import Camera, JointSource, Rig
from vla_rig.rig_file import RigError, load_rig

DISCOVERY_S = 10.0
"""How long to wait for the first message of every stream; discovery takes seconds on a loaded machine."""
_TRANSPORTS_CHOSEN = {
    "FASTDDS_BUILTIN_TRANSPORTS",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_DEFAULT_PROFILES_FILE",
}
MIN_RATE = 0.8
"""Share of the nominal rate below which a stream counts as too slow."""


@dataclass
class Finding:
    """One row of the report."""

    name: str
    topic: str
    seen: str = ""
    """Message type, joints or image size, as found."""
    rate: str = ""
    age: str = ""
    problems: list[str] = field(default_factory=list)


class Checker:
    """Judges the streams and command topics of a rig after listening for a while."""

    def __init__(self, node: Node, rig: Rig) -> None:
        self._node, self._rig = node, rig
        self._streams: dict[str, Camera | JointSource] = {**rig.cameras, **rig.joint_sources}
        self._inputs = RigInputs(node, rig, rig.cameras, rig.joint_sources)

    def heard_all(self) -> bool:
        return all(count.received for count in self._inputs.counts.values())

    def findings(self) -> list[Finding]:
        now_ns = self._node.get_clock().now().nanoseconds
        sample = self._inputs.sample(2**62)  # the newest of each stream
        status = {s.name: s for s in self._inputs.status(now_ns)}
        rows = []
        for name, stream in self._streams.items():
            row = Finding(name, self._node.resolve_topic_name(stream.topic))
            self._judge_publishers(row, stream)
            self._judge_flow(row, stream, status[name])
            if name in sample.values:
                judge = _judge_image if isinstance(stream, Camera) else _judge_joints
                judge(row, stream, sample.values[name])
            rows.append(row)
        return rows + [self._sink(name) for name in self._rig.sinks]

    def _judge_publishers(self, row: Finding, stream: Camera | JointSource) -> None:
        expected = "sensor_msgs/msg/JointState"
        if isinstance(stream, Camera):
            expected = f"sensor_msgs/msg/{'CompressedImage' if stream.message == 'compressed' else 'Image'}"
        infos = self._node.get_publishers_info_by_topic(row.topic)
        if not infos:
            row.problems.append("nobody publishes; is the driver running, in this ROS_DOMAIN_ID?")
        if len(infos) > 1:
            row.problems.append(f"{len(infos)} publishers: {', '.join(sorted(i.node_name for i in infos))}")
        for info in infos:
            row.seen = info.topic_type
            if info.topic_type != expected:
                row.problems.append(f"type {info.topic_type}, expected {expected}")
            row.problems += _qos_clashes(info.node_name, info.qos_profile, qos.SENSOR)

    def _judge_flow(self, row: Finding, stream: Camera | JointSource, status: StreamStatus) -> None:
        row.rate = f"{status.rate_hz:.0f} / {stream.rate_hz:g} Hz"
        row.age = "-" if math.isnan(status.age_s) else f"{status.age_s:.3f} s"
        if not status.received:
            row.problems.append("no message received")
            return
        if status.reason:
            row.problems.append(status.reason)
        if status.age_s < -stream.max_age_s:
            row.problems.append(f"stamped {-status.age_s:.3f} s in the future; are the clocks in step?")
        if status.rate_hz < MIN_RATE * stream.rate_hz:
            hint = ""
            if isinstance(stream, Camera) and not _TRANSPORTS_CHOSEN & set(os.environ):
                hint = "; Fast DDS's default transports lose frames: run the drivers and this as env.bash sets it up"
            row.problems.append(f"{status.rate_hz:.0f} Hz, expected {stream.rate_hz:g} Hz{hint}")

    def _sink(self, name: str) -> Finding:
        sink = self._rig.sinks[name]
        row = Finding(name, self._node.resolve_topic_name(sink.topic), sink.message)
        infos = self._node.get_subscriptions_info_by_topic(row.topic)
        if not infos:
            row.problems.append("nobody listens; is the arm's driver running?")
        for info in infos:
            if info.topic_type != sink.message:
                row.problems.append(f"{info.node_name} expects {info.topic_type}, we send {sink.message}")
            row.problems += _qos_clashes(info.node_name, qos.COMMAND, info.qos_profile)
        return row


def _qos_clashes(other: str, publisher: QoSProfile, subscription: QoSProfile) -> list[str]:
    """What keeps messages from flowing. (rclpy's qos_check_compatible takes a discovered endpoint's
    infinite deadline for a real one.)
    """
    clashes = []
    if (publisher.reliability, subscription.reliability) == (
        ReliabilityPolicy.BEST_EFFORT,
        ReliabilityPolicy.RELIABLE,
    ):
        clashes.append(f"QoS with {other}: the publisher is best effort, the subscription asks for reliable")
    if (publisher.durability, subscription.durability) == (
        DurabilityPolicy.VOLATILE,
        DurabilityPolicy.TRANSIENT_LOCAL,
    ):
        clashes.append(
            f"QoS with {other}: the publisher is volatile, the subscription asks for transient local"
        )
    return clashes


def _judge_image(row: Finding, camera: Camera, message) -> None:
    try:
        height, width = to_rgb(message).shape[:2]
    except ImageError as error:
        row.problems.append(str(error))
        return
    encoding = getattr(message, "encoding", getattr(message, "format", ""))
    row.seen = f"{width}x{height} {encoding}"
    if (width, height) != (camera.width, camera.height):
        row.problems.append(f"{width}x{height}, expected {camera.width}x{camera.height}")
    if camera.message == "raw" and encoding != camera.encoding:
        row.problems.append(f"encoding {encoding}, expected {camera.encoding}")


def _judge_joints(row: Finding, source: JointSource, message) -> None:
    missing = [j for j in source.joints if j not in message.name]
    row.seen = f"{len(source.joints) - len(missing)} of {len(source.joints)} joints"
    if missing:
        row.problems.append(f"joints missing: {', '.join(missing)}; found {', '.join(message.name)}")
    if len(message.position) != len(message.name):
        row.problems.append(f"{len(message.name)} names but {len(message.position)} positions")
        return
    bad = [n for n, p in zip(message.name, message.position, strict=True) if not math.isfinite(p)]
    if bad:
        row.problems.append(f"position not finite: {', '.join(bad)}")


def report(rig: Rig, rows: list[Finding], console: Console) -> bool:
    """Print the table, then every problem in full, then the verdict. True when there is no problem."""
    table = Table(title=f"rig {rig.name}")
    for heading in ("stream", "topic", "found", "rate", "age", ""):
        table.add_column(heading, overflow="fold")
    for row in rows:
        mark = "[red]wrong[/red]" if row.problems else "[green]ok[/green]"
        table.add_row(row.name, row.topic, row.seen, row.rate, row.age, mark)
    console.print(table)
    problems = [f"{row.topic} ({row.name}): {problem}" for row in rows for problem in row.problems]
    for problem in problems:
        console.print(problem, soft_wrap=True, markup=False, highlight=False)
    console.print(f"{len(problems)} problems" if problems else "The rig is as its file says.")
    return not problems


def listen(rig: Rig, seconds: float) -> list[Finding]:
    """Listen for `seconds` of wall time from when every stream has been heard, or DISCOVERY_S has passed.

    Stamps are judged in simulated time where somebody publishes /clock.
    """
    node = Node("check")
    try:
        checker, executor = Checker(node, rig), SingleThreadedExecutor()
        executor.add_node(node)
        begin_s = time.monotonic()
        end_s = begin_s + seconds
        while (now_s := time.monotonic()) < end_s:
            if now_s - begin_s < DISCOVERY_S and not checker.heard_all():
                end_s = now_s + seconds
            executor.spin_once(timeout_sec=0.1)
            if node.count_publishers("/clock") and not node.get_parameter("use_sim_time").value:
                node.set_parameters([Parameter("use_sim_time", value=True)])
        return checker.findings()
    finally:
        node.destroy_node()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="check",
        description="Listen to the running drivers of a rig and compare them with its rig file. "
        "Exit code 0: all is as the file says; 1: something is not; 2: the check could not run.",
    )
    parser.add_argument("--rig", default="aloha", help="path of a rig file, or the name of an installed one")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="how long to listen once all streams are heard (default 5)"
    )
    arguments = parser.parse_args(remove_ros_args(sys.argv)[1:])
    if not arguments.seconds >= 1.0:
        parser.error("--seconds must be at least 1: rates are counted over the last second")
    try:
        rig = load_rig(arguments.rig)
    except RigError as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    rclpy.init(args=sys.argv)
    try:
        good = report(rig, listen(rig, arguments.seconds), Console())
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
