"""The usual recorder, for comparison: keep the episode in memory, write it at the end.

Written for this benchmark after what ACT's and ALOHA's recording scripts do: callbacks convert and keep the newest
image of each camera, a loop at the control rate appends all of them to a list, and at the end one HDF5 file is made of
the lists.

    python -m bench.act_recorder RIG FILE SECONDS       prints one JSON object
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time

import h5py
import numpy as np
import rclpy
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from vla_rig import qos
from vla_rig.rig_file import load_rig


class ActRecorder(Node):
    def __init__(self, rig) -> None:
        super().__init__("act_recorder")
        self.images: dict[str, np.ndarray] = {}
        self.joints: dict[str, JointState] = {}
        for name, camera in rig.cameras.items():
            self.create_subscription(Image, camera.topic, self._image_callback(name), qos.best_effort(1))
        for name in rig.follower_sources:
            store = lambda message, name=name: self.joints.__setitem__(name, message)  # noqa: E731
            self.create_subscription(JointState, rig.joint_sources[name].topic, store, qos.best_effort(1))

    def _image_callback(self, name: str):
        def convert(message: Image) -> None:
            pixels = np.frombuffer(message.data, np.uint8)
            self.images[name] = pixels.reshape(message.height, message.width, 3)

        return convert


def record(node: ActRecorder, rig, seconds: float) -> list[dict]:
    """Rows of the newest images, at the control rate."""
    while len(node.images) < len(rig.cameras) or len(node.joints) < len(rig.follower_sources):
        time.sleep(0.01)
    rows, begin = [], time.monotonic()
    for k in range(round(seconds * rig.control_rate_hz)):
        qpos = np.concatenate([np.asarray(node.joints[name].position) for name in rig.follower_sources])
        rows.append({"qpos": qpos, "images": dict(node.images)})  # no copy: callbacks put new ones there
        time.sleep(max(0.0, begin + (k + 1) / rig.control_rate_hz - time.monotonic()))
    return rows


def write(rows: list[dict], path: str) -> None:
    """All at once, from arrays of the whole episode."""
    with h5py.File(path, "w", rdcc_nbytes=2 << 20) as root:
        root.attrs["sim"] = False
        observations = root.create_group("observations")
        images = observations.create_group("images")
        for name in rows[0]["images"]:
            frames = [row["images"][name] for row in rows]
            shape = (len(rows), *frames[0].shape)
            images.create_dataset(name, shape, dtype="uint8", chunks=(1, *frames[0].shape))
            images[name][...] = frames
        observations.create_dataset("qpos", data=np.array([row["qpos"] for row in rows], np.float32))


def main() -> None:
    rig, path, seconds = load_rig(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    rclpy.init()
    node = ActRecorder(rig)
    executor = MultiThreadedExecutor(2)
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    before = _cpu_s()
    rows = record(node, rig, seconds)
    cpu_share = (_cpu_s() - before) / seconds
    stopped = time.monotonic()
    write(rows, path)
    closed_s = time.monotonic() - stopped
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"closed_s": closed_s, "cpu": cpu_share, "peak_mb": peak_mb}), flush=True)
    executor.shutdown(timeout_sec=0)
    rclpy.try_shutdown()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
