"""Episode files for the tests of the tools: of the simulated ALOHA, with pictures that say camera and row."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
from recorder_episodes import DT_NS, header, row

from vla_recorder.episode import images, layout
from vla_recorder.episode.writer import EpisodeWriter
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).parents[2] / "config"
SIM = load_rig(CONFIG / "aloha_sim.yaml")


def small_rig(height=48, width=64):
    """The simulated ALOHA with small pictures."""
    cameras = {
        name: camera.model_copy(update={"height": height, "width": width})
        for name, camera in SIM.cameras.items()
    }
    return SIM.model_copy(update={"cameras": cameras})


def picture(camera: int, t: int, height: int, width: int) -> np.ndarray:
    """Smooth, so that JPEG and H.264 keep it; its mean level says the camera, its slope the row."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    level = 40 + 40 * camera
    ramp = np.stack([x / width, y / height, 1 - x / width], axis=-1)
    return np.uint8(np.clip(level + (20 + t % 40) * ramp, 0, 255))


def sound_rows(head, rows: int):
    """Rows as a healthy rig gives them, all stamps 1 s later than their numbers: cameras at every second row."""
    made = []
    for t in range(rows):
        one = row(t, head)
        one.stamp_ns = 10**9 + t * DT_NS
        one.stream_stamps_ns = np.full(len(head.stream_names), one.stamp_ns, np.int64)
        one.stream_stamps_ns[:4] -= t % 2 * DT_NS
        one.repeated = one.stream_stamps_ns == (made[-1].stream_stamps_ns if made else layout.NO_STAMP)
        angles = 0.3 * np.sin(t / 15 + np.arange(14)).astype(np.float32)
        one.qpos, one.qvel = angles, np.full(14, t, np.float32)
        one.effort = np.arange(14, dtype=np.float32) + t / 100
        one.action, one.command = angles + 0.02, angles + np.float32(0.01)
        one.images = {
            name: picture(i, t - t % 2, *size) for i, (name, size) in enumerate(head.cameras.items())
        }
        one.interventions, one.command_source = [], "teleop"
        made.append(one)
    return made


def write(
    folder, rows=30, form="raw", change=lambda rows: None, closed=True, size=(48, 64), **header_changes
):
    """An episode in `folder`; `change` may spoil its rows. Its path."""
    head = header(*size, rig=small_rig(*size).to_yaml(), image_form=form, **header_changes)
    writer, made = EpisodeWriter(folder, head), sound_rows(head, rows)
    change(made)
    for one in made:
        if form == "jpeg":
            one.images = {
                n: images.encode(i, head.jpeg_quality, head.jpeg_colour) for n, i in one.images.items()
            }
        writer.append(one)
    if not closed:
        return writer
    path = writer.close("operator", "success")
    writer.wait_synced()
    return path


def plain_act(path, rows=7, cameras=("top",), form="raw"):
    """A file as the ACT family's own recorders write it: nothing of ours in it."""
    pictures = {name: [picture(i, t, 48, 64) for t in range(rows)] for i, name in enumerate(cameras)}
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = True
        for name in ("action", "observations/qpos", "observations/qvel", "observations/effort"):
            file.create_dataset(name, data=np.arange(rows * 14, dtype="f4").reshape(rows, 14))
        if form == "jpeg":
            file.attrs["compress"] = True
            encoded = {n: [images.encode(one, 50, "act") for one in of] for n, of in pictures.items()}
            longest = max(len(one) for of in encoded.values() for one in of)
            lengths = [[len(one) for one in of] for of in encoded.values()]
            file.create_dataset("compress_len", data=np.array(lengths, "f4"))
            pictures = {
                n: [np.frombuffer(one.ljust(longest, b"\0"), "u1") for one in of] for n, of in encoded.items()
            }
        for name, of in pictures.items():
            file.create_dataset(f"observations/images/{name}", data=np.stack(of), chunks=(1, *of[0].shape))
    return path


def run_episode(*arguments, check=None, **more) -> subprocess.CompletedProcess:
    """`episode ARGUMENTS` as its own process."""
    command = [sys.executable, "-m", "vla_recorder.tools.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    assert "Traceback" not in done.stderr, done.stderr
    assert check is None or done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done


def names(folder) -> list[str]:
    """All files of a folder, hidden ones too, but the recorder's lock."""
    return sorted(path.name for path in Path(folder).iterdir() if path.name != layout.LOCK_NAME)
