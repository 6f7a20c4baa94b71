"""Rows and headers for the tests: every number says which row and column it belongs to."""

import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeHeader, Row

CAMERAS = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
ARMS = [
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
]
DT_NS = 20_000_000


def header(height: int = 480, width: int = 640, **changes) -> EpisodeHeader:
    streams = [*CAMERAS, "follower_left", "follower_right", "command"]
    values = {
        "state_names": ARMS,
        "state_units": ["rad"] * 14,
        "action_names": ARMS,
        "action_units": ["rad"] * 14,
        "cameras": dict.fromkeys(CAMERAS, (height, width)),
        "stream_names": streams,
        "stream_topics": [f"{name}/topic" for name in streams],
        "control_rate_hz": 50.0,
        "instruction": "hand over the cube, größer",
        "sim": True,
        "rig": "name: test_rig\n",
    }
    return EpisodeHeader(**(values | changes))


def row(t: int, head: EpisodeHeader, image_value: int | None = None) -> Row:
    columns = np.arange(14, dtype=np.float32)
    value = t % 251 if image_value is None else image_value
    images = {
        name: np.broadcast_to(np.uint8([value, i, 255 - value]), (*head.cameras[name], 3)).copy()
        for i, name in enumerate(head.cameras)
    }
    N = len(head.stream_names)
    stamps = np.full(N, t * DT_NS, np.int64)
    stamps[0] = layout.NO_STAMP if t == 1 else stamps[0]
    return Row(
        stamp_ns=t * DT_NS,
        qpos=columns + 100 * t,
        qvel=columns + 0.25,
        effort=np.full(14, np.nan, np.float32),
        action=-columns - 100 * t,
        command=-columns - 100 * t + 0.5,
        images=images,
        stream_stamps_ns=stamps,
        fresh=np.ones(N, bool),
        repeated=np.arange(N) == t % N,
        command_source="teleop" if t % 2 else "somebody",
        interventions=["velocity: left_waist", "position: right_elbow"] if t == 2 else [],
    )
