"""The datasets of an episode file as the writer sees them: made before the first row, then grown by rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import h5py
import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeHeader, Row

BLOCK_ROWS = 64  # chunk length of the small datasets
_JPEG_CHUNK = 16 << 10  # bytes; a JPEG row takes as many as it needs, its last one is padded


class Frames:
    """The frames of one camera: one chunk a row, straight from the message to the file, past HDF5's caches."""

    def __init__(self, file: h5py.File, camera: str, size: tuple[int, int]):
        self.shape = (*size, 3)
        self._dataset = file.create_dataset(
            layout.image_path(camera),
            (0, *self.shape),
            np.uint8,
            maxshape=(None, *self.shape),
            chunks=(1, *self.shape),
        )

    def append(self, t: int, image: np.ndarray) -> None:
        self._dataset.resize(t + 1, axis=0)
        self._dataset.id.write_direct_chunk((t, 0, 0, 0), np.ascontiguousarray(image))


class JpegFrames:
    """The same in the padded form: (T, P) bytes, P growing in whole chunks with the longest frame.

    Chunks beyond a frame's bytes are never written: HDF5 reads them as zeros, the padding that readers expect.
    P stays a multiple of the chunk, because HDF5 rewrites every row's last chunk when P cuts through it.
    """

    def __init__(self, file: h5py.File, camera: str, size: tuple[int, int]):
        chunks = (1, _JPEG_CHUNK)
        self._dataset = file.create_dataset(
            layout.image_path(camera), (0, _JPEG_CHUNK), np.uint8, maxshape=(None, None), chunks=chunks
        )
        self._dataset.attrs[layout.HEIGHT_ATTR], self._dataset.attrs[layout.WIDTH_ATTR] = size

    def append(self, t: int, encoded: bytes) -> None:
        padding = -len(encoded) % _JPEG_CHUNK
        longest = max(self._dataset.shape[1], len(encoded) + padding)
        self._dataset.resize((t + 1, longest))
        padded = memoryview(encoded + bytes(padding))
        for begin in range(0, len(padded), _JPEG_CHUNK):
            self._dataset.id.write_direct_chunk((t, begin), padded[begin : begin + _JPEG_CHUNK])


def create(file: h5py.File, header: EpisodeHeader) -> dict[str, Frames | JpegFrames]:
    """Make everything, so that a file cut short has the whole layout; returns the cameras' frames."""

    def per_row(path: str, width: tuple[int, ...], dtype) -> None:
        file.create_dataset(path, (0, *width), dtype, maxshape=(None, *width), chunks=(BLOCK_ROWS, *width))

    N = len(header.stream_names)
    for path, columns in layout.float_paths(header).items():
        per_row(path, (columns,), layout.FLOAT)
    per_row(layout.STAMP, (), layout.STAMP_DTYPE)
    per_row(layout.STREAM_STAMP, (N,), layout.STAMP_DTYPE)
    per_row(layout.STREAM_FRESH, (N,), np.bool_)
    per_row(layout.STREAM_REPEATED, (N,), np.bool_)
    per_row(layout.COMMAND_SOURCE, (), layout.SOURCE_DTYPE)
    per_row(layout.INTERVENTIONS, (), layout.TEXT)
    per_row(layout.REASONINGS, (), layout.TEXT)
    file.create_dataset(layout.LANGUAGE, data=[header.instruction], dtype=layout.TEXT)
    file.create_dataset(layout.RIG, data=header.rig, dtype=layout.TEXT)
    kind = JpegFrames if header.image_form == "jpeg" else Frames
    frames = {camera: kind(file, camera, size) for camera, size in header.cameras.items()}
    if header.image_form == "jpeg":
        C = len(frames)
        file.create_dataset(
            layout.COMPRESS_LEN, (C, 0), layout.FLOAT, maxshape=(C, None), chunks=(C, BLOCK_ROWS)
        )
    _write_attributes(file, header)
    return frames


def append_small(file: h5py.File, header: EpisodeHeader, begin: int, rows: Sequence[Row]) -> None:
    """Everything of `rows` but the frames, from row `begin` on."""
    columns = {
        layout.STAMP: [row.stamp_ns for row in rows],
        layout.ACTION: [row.action for row in rows],
        layout.COMMAND: [row.command for row in rows],
        layout.QPOS: [row.qpos for row in rows],
        layout.QVEL: [row.qvel for row in rows],
        layout.EFFORT: [row.effort for row in rows],
        layout.STREAM_STAMP: [row.stream_stamps_ns for row in rows],
        layout.STREAM_AGE: [row.ages_s() for row in rows],
        layout.STREAM_FRESH: [row.fresh for row in rows],
        layout.STREAM_REPEATED: [row.repeated for row in rows],
        layout.COMMAND_SOURCE: [layout.command_source_code(row.command_source) for row in rows],
        layout.INTERVENTIONS: ["; ".join(row.interventions) for row in rows],
        layout.REASONINGS: [row.substep or header.instruction for row in rows],
    }
    if header.leader:
        columns[layout.LEADER] = [row.leader for row in rows]
    for path, values in columns.items():
        dataset = file[path]
        dataset.resize(begin + len(rows), axis=0)
        dataset[begin:] = values


def append_lengths(file: h5py.File, begin: int, lengths: Sequence[Mapping[str, int]]) -> None:
    """`/compress_len` of rows from `begin` on: camera -> bytes; cameras in HDF5's own, alphabetical order."""
    dataset = file[layout.COMPRESS_LEN]
    dataset.resize(begin + len(lengths), axis=1)
    dataset[:, begin:] = np.transpose([[row[camera] for camera in sorted(row)] for row in lengths])


def describe(file: h5py.File, attributes: Mapping[str, str]) -> None:
    """Set attributes of /vla that are known at the end; an instruction stands elsewhere, too."""
    file[layout.VLA].attrs.update(attributes)
    if "instruction" in attributes:
        file[layout.LANGUAGE][0] = attributes["instruction"]


def _write_attributes(file: h5py.File, header: EpisodeHeader) -> None:
    file.attrs[layout.SIM_ATTR] = np.bool_(header.sim)
    values = dataclasses.asdict(header)
    for elsewhere in ("cameras", "rig", "sim", "leader"):
        del values[elsewhere]
    if header.image_form == "jpeg":
        file.attrs[layout.COMPRESS_ATTR] = np.bool_(True)
    else:
        del values["jpeg_quality"], values["jpeg_colour"]
    streams = file[layout.STREAMS]
    streams.attrs["names"] = np.array(values.pop("stream_names"), dtype=layout.TEXT)
    streams.attrs["topics"] = np.array(values.pop("stream_topics"), dtype=layout.TEXT)
    attrs = file[layout.VLA].attrs
    attrs["format_version"] = layout.FORMAT_VERSION
    attrs["colour_order"] = layout.COLOUR_ORDER
    for key, value in values.items():
        attrs[key] = np.array(value, dtype=layout.TEXT) if isinstance(value, list) else value
    attrs["started"] = header.started or now_text()
    attrs.update(end_reason="", label="none", ended="")  # an empty end_reason: never closed


def now_text() -> str:
    """Wall clock, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
