"""Camera frames to and from mp4 files, with PyAV.

Frame k of a file is shown at k / fps exactly, so that a reader that looks for a time finds its frame. Every second
frame is a key frame: training reads single frames at random.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vla_recorder.lerobot.layout import LeRobotError

CODECS = {
    "h264": ("libx264", {"crf": "18", "preset": "veryfast", "bf": "0"}),
    "av1": ("libsvtav1", {"crf": "30", "preset": "12"}),  # LeRobot's own default: smaller, slower
}
_KEY_FRAME_EVERY = 2


class VideoWriter:
    """One mp4 file of (H, W, 3) uint8 RGB frames. Raises LeRobotError when it cannot be written."""

    def __init__(self, path: Path, fps: int, codec: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.codec, self.frames = path, codec, 0
        self._fps, self._stream = fps, None
        with self._writing():
            self._container = av.open(str(path), "w")

    def add(self, image: np.ndarray) -> None:
        with self._writing():
            if self._stream is None:
                self._stream = self._open(*image.shape[:2])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
            self._container.mux(self._stream.encode(frame))
        self.frames += 1

    @property
    def size_bytes(self) -> int:
        """What has reached the file so far; FFmpeg makes it with the first frame that leaves the encoder."""
        return self.path.stat().st_size if self.path.exists() else 0

    def close(self) -> None:
        with self._writing():
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self._stream = None  # FFmpeg crashes the process when asked again
            raise LeRobotError(f"{self.path}: cannot be written: {error}") from error

    def _open(self, height: int, width: int):
        name, options = CODECS[self.codec]
        stream = self._container.add_stream(name, rate=self._fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = _KEY_FRAME_EVERY
        stream.codec_context.time_base = Fraction(1, self._fps)
        stream.thread_type = "AUTO"
        return stream


def read_frames(path: Path, start_s: float, count: int, fps: float) -> Iterator[np.ndarray]:
    """`count` frames (H, W, 3) uint8 RGB, the first shown at start_s. ValueError when the file has none, or fewer."""
    found = 0
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("has no video stream")
        stream = container.streams.video[0]
        container.seek(round(start_s / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.time < start_s - 0.5 / fps:
                continue  # between the key frame before and the start
            yield frame.to_ndarray(format="rgb24")
            found += 1
            if found == count:
                return
    raise ValueError(f"{path}: {found} frames from {start_s:.3f} s on, expected {count}")
