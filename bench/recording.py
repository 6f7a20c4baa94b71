"""The recorder under its full load: 4 cameras of 480x640 at 50 Hz, raw topics from another process.

Beside it, in the same run and on the same topics, the usual recorder that keeps the episode in memory; it gets fewer
seconds, because its memory grows with every one. Frames lost are counted by the numbers that the frames carry.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import rclpy
from rclpy.node import Node

from bench.numbered_source import read_number
from bench.row import Row
from vla_msgs.msg import EpisodeStatus
from vla_msgs.srv import StartEpisode, StopEpisode
from vla_recorder.episode.reader import EpisodeReader
from vla_rig import qos

SECONDS, JPEG_SECONDS, USUAL_SECONDS = 60.0, 20.0, 10.0
DOMAIN = 63
RIG = """
extends: {base}
cameras:
  cam_high: {{rate_hz: 50}}
  cam_low: {{rate_hz: 50}}
  cam_left_wrist: {{rate_hz: 50}}
  cam_right_wrist: {{rate_hz: 50}}
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=Path("build")) as folder:
        rig_path = Path(folder, "bench_rig.yaml")
        rig_path.write_text(RIG.format(base=Path("config/aloha.yaml").resolve()))
        source = _start("bench.numbered_source", rig_path)
        try:
            usual = _usual(rig_path, Path(folder, "usual.hdf5"))
            raw = _ours(rig_path, Path(folder, "raw"), _affordable(SECONDS, folder), "raw")
            jpeg = _ours(rig_path, Path(folder, "jpeg"), JPEG_SECONDS, "jpeg")
        finally:
            _end(source)
    return _rows(usual, raw, jpeg)


def _rows(usual: dict, raw: dict, jpeg: dict) -> list[Row]:
    what = (
        ("lost_per_1000", "frames lost per 1000", "", "0"),
        ("cpu", "CPU while recording", "cores", "<= 1"),
        ("peak_mb", "resident memory, peak", "MB", "<= 400"),
        ("closed_s", "stop to closed", "s", "<= 0.2 raw, 0.5 JPEG"),
    )
    rows = []
    for form, ours in (("raw", raw), ("JPEG", jpeg)):
        for key, text, unit, goal in what:
            name = f"recorder {form} {ours['seconds']:.0f} s: {text} (in memory, {USUAL_SECONDS:.0f} s)"
            ratio = usual[key] / ours[key] if ours[key] else float("inf" if usual[key] else "nan")
            rows.append(Row(name, ours[key], usual[key], ratio, unit, goal))
    return rows


def _affordable(seconds: float, folder: str) -> float:
    """As long as the disk allows: raw frames are 184 MB a second."""
    free = shutil.disk_usage(folder).free - (1 << 30)
    return max(5.0, min(seconds, free / 200e6))


def _usual(rig_path: Path, path: Path) -> dict:
    process = _start("bench.act_recorder", rig_path, path, USUAL_SECONDS, stdout=subprocess.PIPE)
    figures = json.loads(process.communicate(timeout=300)[0])
    with h5py.File(path) as file:
        figures["lost_per_1000"] = _lost_per_1000(list(file["observations/images"].values()))
    path.unlink()
    return figures


def _ours(rig_path: Path, folder: Path, seconds: float, form: str) -> dict:
    options = {"image_form": form, "instruction": "bench", "countdown_s": 0.0}
    pairs = [part for name, value in options.items() for part in ("-p", f"{name}:={value}")]
    arguments = ["--rig", rig_path, "--folder", folder, "--ros-args", *pairs]
    process = _start("vla_recorder.record", *arguments, stdout=subprocess.DEVNULL)
    try:
        with _Operator() as operator:
            operator.call("recorder/start", StartEpisode, StartEpisode.Request(instruction="bench"))
            operator.until(lambda status: status.rows > 0)
            cpu_before, begin = _cpu_s(process.pid), time.monotonic()
            operator.until(lambda status: time.monotonic() - begin >= seconds)
            cpu = (_cpu_s(process.pid) - cpu_before) / (time.monotonic() - begin)
            stopping = time.monotonic()
            stopped = operator.call("recorder/stop", StopEpisode, StopEpisode.Request(save=True))
            closed_s = time.monotonic() - stopping
        peak_mb = _peak_mb(process.pid)
    finally:
        _end(process)
    with EpisodeReader(stopped.path) as episode:
        lost = _lost_per_1000([episode.images(name) for name in episode.camera_names])
    shutil.rmtree(folder)
    return {
        "lost_per_1000": lost,
        "cpu": cpu,
        "peak_mb": peak_mb,
        "closed_s": closed_s,
        "seconds": seconds,
    }


def _lost_per_1000(cameras: list) -> float:
    """Frames between the first and the last of each camera that no row has."""
    asked = lost = 0
    for frames in cameras:
        numbers = {read_number(frames[t]) for t in range(frames.shape[0])}
        asked += max(numbers) - min(numbers) + 1
        lost += max(numbers) - min(numbers) + 1 - len(numbers)
    return 1000 * lost / asked


class _Operator:
    """Calls the recorder's services and watches its status."""

    def __enter__(self) -> _Operator:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._node = Node("bench_operator", context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._status = EpisodeStatus()
        self._node.create_subscription(
            EpisodeStatus, "recorder/status", lambda message: setattr(self, "_status", message), qos.STATUS
        )
        return self

    def __exit__(self, *_exception) -> None:
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def call(self, name: str, kind: type, request):
        client = self._node.create_client(kind, name)
        if not client.wait_for_service(timeout_sec=60):
            raise RuntimeError(f"no service {name} within 60 s; see the recorder's output above")
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, timeout_sec=120)
        if future.result() is None or not future.result().success:
            raise RuntimeError(f"{name}: {future.result()}")
        return future.result()

    def until(self, condition) -> None:
        deadline = time.monotonic() + 300
        while not condition(self._status):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the recorder did not get there; its status: {self._status}")
            self._executor.spin_once(timeout_sec=0.05)


def _start(module: str, *arguments, **more) -> subprocess.Popen:
    argv = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(argv, env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)}, **more)


def _end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
