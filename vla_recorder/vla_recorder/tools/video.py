"""An episode as a video: one picture a row, at the row's own time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.drawing import times_s
from vla_recorder.tools.mosaic import Mosaic
from vla_recorder.tools.progress import bar
from vla_recorder.tools.whole import new_file

CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}
"""Encoders by preference, with their options: H.264 where PyAV was built with it."""
TIME_BASE = Fraction(1, 90_000)
_DEFAULT_HZ = 50.0  # ALOHA's; for plain ACT files, which know no time


def codec() -> str:
    """The first of CODECS that this PyAV can encode. Raises EpisodeError when there is none."""
    for name in CODECS:
        if name in av.codecs_available:
            return name
    raise EpisodeError(f"this build of PyAV encodes none of {', '.join(CODECS)}; install av from PyPI")


def write_video(episode: EpisodeReader, target: Path, scale: float = 1.0, overlay: bool = True) -> None:
    """Write an mp4 of all cameras. Raises EpisodeError when there is nothing to show or it cannot be written."""
    if not len(episode) or not episode.camera_names:
        raise EpisodeError(f"{episode.path}: has no frames to show")
    mosaic, name = Mosaic(episode, scale, overlay), codec()
    pts = frame_times(episode)
    with new_file(target) as partial, bar(len(episode), target.name) as progress:
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
                stream = container.add_stream(name, rate=_rate(episode), options=CODECS[name])
                stream.height, stream.width = mosaic.size
                stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TIME_BASE
                stream.codec_context.colorspace = Colorspace.ITU709
                stream.codec_context.color_range = ColorRange.MPEG
                for t in range(len(episode)):
                    frame = av.VideoFrame.from_ndarray(mosaic.picture(t), format="rgb24")
                    frame = frame.reformat(
                        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                    )
                    frame.pts, frame.time_base = int(pts[t]), TIME_BASE
                    container.mux(stream.encode(frame))
                    progress.update()
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise EpisodeError(f"{target}: cannot be written: {error}") from error


def frame_times(episode: EpisodeReader) -> np.ndarray:
    """(T,) int64 in TIME_BASE units: the rows' stamps from the first one on; rising, whatever the stamps do."""
    rate_hz = episode.control_rate_hz or _DEFAULT_HZ
    at_s = times_s(episode) if episode.stamps_ns is not None else np.arange(len(episode)) / rate_hz
    steps = np.diff(np.round(at_s / float(TIME_BASE)).astype(np.int64), prepend=0)
    steps[1:] = np.maximum(steps[1:], 1)
    return np.cumsum(steps)


def _rate(episode: EpisodeReader) -> Fraction:
    return Fraction(episode.control_rate_hz or _DEFAULT_HZ).limit_denominator(1000)
