"""Small real episodes: a point moves to where a bright square is. Written by the real EpisodeWriter."""

from pathlib import Path

import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeHeader, Row
from vla_recorder.episode.writer import EpisodeWriter

RATE_HZ = 10.0
CAMERAS = ("front", "wrist")
SIZE = (40, 56)
STATE = ("arm_x", "arm_y")
ACTION = ("arm_x", "arm_y")
STREAMS = (*CAMERAS, "follower", "command")
RIG = """\
name: test_rig
control_rate_hz: 10
ranges:
  finger: [0.0, 1.0]
state:
- {name: arm_x, source: follower, joint: x, quantity: position, unit: rad, range: finger}
- {name: arm_y, source: follower, joint: y, quantity: position, unit: rad}
action:
- {name: arm_x, sink: arm, joint: x, quantity: position, unit: rad, range: finger}
- {name: arm_y, sink: arm, joint: y, quantity: position, unit: rad}
"""


def header(**changes) -> EpisodeHeader:
    values = {
        "state_names": list(STATE),
        "state_units": ["rad"] * 2,
        "action_names": list(ACTION),
        "action_units": ["rad"] * 2,
        "cameras": dict.fromkeys(CAMERAS, SIZE),
        "stream_names": list(STREAMS),
        "stream_topics": list(STREAMS),
        "control_rate_hz": RATE_HZ,
        "instruction": "reach the square",
        "sim": True,
        "rig": RIG,
    }
    return EpisodeHeader(**(values | changes))


def target(goal: int, t: np.ndarray | int, rows: int) -> np.ndarray:
    """Action of row t: from (0, 1) on a straight line to a place that depends on `goal` alone."""
    share = np.minimum((np.asarray(t) + 1) / rows, 1.0)[..., None]
    end = np.array([0.8, -0.6]) if goal else np.array([-0.7, 0.9])
    return ((1 - share) * np.array([0.0, 1.0]) + share * end).astype(np.float32)


def image(goal: int, camera: int, t: int) -> np.ndarray:
    out = np.full((*SIZE, 3), 40 + 10 * camera, np.uint8)
    out[5:20, 5 + 25 * goal : 20 + 25 * goal] = (250, 30, t % 200)
    return out


def write(folder: Path, goal: int = 0, rows: int = 24, stale: dict | None = None, **changes) -> Path:
    """One episode. `stale` maps a row to the streams that are not fresh in it; their floats are NaN then."""
    stale = stale or {}
    writer = EpisodeWriter(folder, header(**changes))
    for t in range(rows):
        missing = stale.get(t, ())
        action = target(goal, t, rows) if "command" not in missing else np.full(2, np.nan, np.float32)
        state = target(goal, t - 1, rows) if "follower" not in missing else np.full(2, np.nan, np.float32)
        writer.append(
            Row(
                stamp_ns=t * 100_000_000,
                qpos=state,
                qvel=np.zeros(2, np.float32),
                effort=np.full(2, np.nan, np.float32),
                action=action,
                command=action,
                images={name: image(goal, i, t) for i, name in enumerate(CAMERAS)},
                stream_stamps_ns=np.full(len(STREAMS), t * 100_000_000),
                fresh=np.array([name not in missing for name in STREAMS]),
                repeated=np.zeros(len(STREAMS), bool),
            )
        )
    return writer.close("done", "success")


def write_plain(path: Path, sim: bool, rows: int = 12) -> Path:
    """A raw file as ACT's recorder writes it: nothing of ours."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["sim"] = sim
        file[layout.ACTION] = target(0, np.arange(rows), rows)
        file[layout.QPOS] = target(0, np.arange(rows) - 1, rows)
        file[layout.QVEL] = np.zeros((rows, 2), np.float32)
        for i, camera in enumerate(CAMERAS):
            file[layout.image_path(camera)] = np.stack([image(0, i, t) for t in range(rows)])
    return path
