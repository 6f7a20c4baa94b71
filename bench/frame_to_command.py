"""Camera frame -> command over real DDS: our policy node against the usual single-threaded one.

Same small model, same rig streams (four 480x640 cameras at 30 Hz, joints at 100 Hz), one after the
other on this machine. The age is that of the newest observation behind a command when the command
arrives in another process; the gap is the time between two commands of a 50 Hz control loop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node

from bench.row import Row, row
from vla_model import presets
from vla_model.policy import build_policy
from vla_msgs.msg import ActionChunk, RigCommand
from vla_rig.inputs import stamp_ns
from vla_rig.rig import Rig
from vla_rig.rig_file import load_rig

SECONDS = 15.0
RIG = """
extends: {base}
cameras:
  cam_high: {{rate_hz: 30}}
  cam_low: {{rate_hz: 30}}
  cam_left_wrist: {{rate_hz: 30}}
  cam_right_wrist: {{rate_hz: 30}}
joint_sources: {{follower_left: {{rate_hz: 100}}, follower_right: {{rate_hz: 100}}}}
max_skew_s: 0.1
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        rig_path = Path(folder, "bench_rig.yaml")
        rig_path.write_text(RIG.format(base=Path("config/aloha_sim.yaml").resolve()))
        checkpoint = Path(folder, "checkpoint")
        _untrained(load_rig(rig_path)).save(checkpoint)
        ours = _measure(rig_path, _policy_node(rig_path, checkpoint), ours=True)
        usual = _measure(
            rig_path, [sys.executable, "-m", "bench.naive_policy", rig_path, checkpoint], ours=False
        )
    rows = []
    for key, goal in (("p50", "fresher"), ("p95", "fresher")):
        rows.append(
            row(f"observation age at command, {key}", ours["age", key], usual["age", key], "ms", goal)
        )
    rows.append(
        row("gap between commands, p95 (20 asked)", ours["gap", "p95"], usual["gap", "p95"], "ms", "about 20")
    )
    return rows


def _untrained(rig: Rig):
    """A policy of the small size with random weights: it takes as long as a trained one."""
    config = presets.small(tuple(rig.cameras), len(rig.state), len(rig.action), 50, rig.dt_s)

    def bounds(n: int) -> dict:
        return {"min": [-1.0] * n, "max": [1.0] * n}

    statistics = {"bench": {"action": bounds(len(rig.action)), "proprio": bounds(len(rig.state))}}
    return build_policy(config, statistics, rig.to_yaml())


def _policy_node(rig_path: Path, checkpoint: Path) -> list:
    parameters = {
        "rig": rig_path,
        "checkpoint": checkpoint,
        "instruction": "transfer the cube",
        "start": "true",
    }
    pairs = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    return [sys.executable, "-m", "vla_policy_node.node", "--ros-args", *pairs]


def _measure(rig_path: Path, policy: list, ours: bool) -> dict:
    """Run source and policy, listen, and return age and gap percentiles in ms."""
    env = os.environ | {"ROS_DOMAIN_ID": str(60 + ours)}
    processes = [
        subprocess.Popen([str(a) for a in argv], env=env)
        for argv in ([sys.executable, "-m", "bench.rig_source", rig_path], policy)
    ]
    try:
        return _listen(
            60 + ours, ActionChunk if ours else RigCommand, "policy/action_chunk" if ours else "command"
        )
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(timeout=10)


def _listen(domain: int, kind: type, topic: str) -> dict:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("bench_listener", context=context)
    arrivals, ages = [], []

    def on_message(message) -> None:
        observed = message.observation_stamp if kind is ActionChunk else message.header.stamp
        arrivals.append(time.monotonic())
        ages.append((node.get_clock().now().nanoseconds - stamp_ns(observed)) * 1e-6)

    node.create_subscription(kind, topic, on_message, 50)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    deadline = time.monotonic() + 60
    while len(ages) < 20:  # settled
        executor.spin_once(timeout_sec=0.1)
        if time.monotonic() > deadline:
            raise RuntimeError(f"no messages on {topic} within 60 s; see the processes' output above")
    arrivals.clear(), ages.clear()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    node.destroy_node()
    rclpy.shutdown(context=context)
    gaps = np.diff(arrivals) * 1e3
    figures = {"age": ages, "gap": gaps}
    return {
        (what, f"p{q}"): float(np.percentile(values, q)) for what, values in figures.items() for q in (50, 95)
    }
