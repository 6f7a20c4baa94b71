"""Writes one episode while it happens: memory is bounded, a crash leaves a readable file."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from datetime import datetime, timezone
from pathlib import Path

import h5py
import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError, EpisodeHeader, Row

FLUSH_INTERVAL_S = 0.5  # a killed process loses at most this much
_BLOCK_ROWS = 64  # chunk length of the small datasets; image chunks are single frames


class EpisodeWriter:
    """Creates `episode_{i}.hdf5.partial`, appends rows, and on `close` renames it to `episode_{i}.hdf5`.

    i is the first index that is free in `folder`; two writers in one folder never get the same. Rows are
    handed to the operating system at least every `FLUSH_INTERVAL_S` of appending (`flush_if_due` when idle),
    so a killed process keeps them; a power cut may not. Not thread-safe: one thread writes.

    Raises EpisodeError when the folder cannot be written.
    """

    def __init__(self, folder: str | Path, header: EpisodeHeader):
        self.folder = Path(folder).expanduser()
        self.header = header
        self.rows = 0
        self.flushed_rows = 0
        self.failed = False  # the disk refused; nothing more can be written
        self.index, self._file = _create(self.folder)
        self.path = layout.partial_path(self.folder, self.index)
        self._pending: list[Row] = []
        try:
            self._floats, self._images = _create_datasets(self._file, header)
            self._file.flush()
        except BaseException:
            self._file.close()
            self.path.unlink()
            raise
        self._flushed_at_s = time.monotonic()

    @property
    def final_path(self) -> Path:
        return layout.episode_path(self.folder, self.index)

    def append(self, row: Row) -> None:
        """Add one row. Raises EpisodeError on a wrong shape or when the disk refuses; rows before stay."""
        for camera, dataset in self._images.items():
            image = row.images.get(camera)
            if image is None or image.shape != dataset.shape[1:] or image.dtype != np.uint8:
                found = "nothing" if image is None else f"{image.shape} {image.dtype}"
                expected = f"image of '{camera}' must be {dataset.shape[1:]} uint8"
                raise EpisodeError(f"{self.path}: row {self.rows}: {expected}, got {found}")
        try:
            for camera, dataset in self._images.items():
                dataset.resize(self.rows + 1, axis=0)
                # straight from the message to the file: no filter pipeline, no chunk cache
                dataset.id.write_direct_chunk((self.rows, 0, 0, 0), np.ascontiguousarray(row.images[camera]))
            row.images = {}  # the frames are written: let the messages go
            self._pending.append(row)
            self.rows += 1
            self.flush_if_due()
        except (OSError, RuntimeError) as error:  # h5py raises either
            raise self._give_up(error) from error

    def flush_if_due(self) -> None:
        """Flush when the last flush is FLUSH_INTERVAL_S ago or a block is full."""
        if time.monotonic() - self._flushed_at_s >= FLUSH_INTERVAL_S or len(self._pending) >= _BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand everything appended so far to the operating system. Raises EpisodeError when it refuses."""
        try:
            self._write_pending()
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise self._give_up(error) from error
        self.flushed_rows = self.rows
        self._flushed_at_s = time.monotonic()

    def close(self, end_reason: str, label: str = "none", checkpoint: str | None = None) -> Path:
        """Finish the file and give it its final name; returns it. Raises EpisodeError when the disk refuses.

        `checkpoint` replaces the header's, for policies that began to command later.
        """
        return self._finish(end_reason, label, self.final_path, checkpoint)

    def discard(self, end_reason: str = "discarded") -> Path:
        """Finish the file but move it to `trash/`, under a name that never clashes; returns it."""
        trash = self.folder / layout.TRASH
        time_text = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        try:
            trash.mkdir(exist_ok=True)
        except OSError as error:
            raise EpisodeError(f"{self.path}: cannot be discarded: {error}") from error
        return self._finish(
            end_reason, "none", trash / f"episode_{self.index}_{time_text}_{os.getpid()}.hdf5"
        )

    def _finish(self, end_reason: str, label: str, target: Path, checkpoint: str | None = None) -> Path:
        if label not in layout.LABELS:
            raise ValueError(f"label must be one of {layout.LABELS}, got {label!r}")
        if self.failed:
            raise EpisodeError(f"{self.path}: was given up; its first {self.flushed_rows} rows are on disk")
        self.flush()
        try:
            attrs = self._file[layout.VLA].attrs
            attrs.update(end_reason=end_reason, label=label, ended=_now())
            if checkpoint is not None:
                attrs["checkpoint"] = checkpoint
            self._file.flush()
            self._file.close()
        except (OSError, RuntimeError) as error:
            raise self._give_up(error) from error
        try:
            if target.exists():
                raise FileExistsError(errno.EEXIST, "somebody else wrote this file", str(target))
            os.rename(self.path, target)
        except OSError as error:
            raise EpisodeError(f"{self.path}: is complete but cannot be renamed: {error}") from error
        self.path = target
        return target

    def _give_up(self, error: Exception) -> EpisodeError:
        """Leave a file that cannot be written as it is: what was flushed stays, HDF5 finishes into the void.

        Without this HDF5 tries to write again when the interpreter ends, and crashes it.
        """
        if not self.failed:
            self.failed = True
            with open(os.devnull, "r+b", buffering=0) as void:
                os.dup2(void.fileno(), self._file.id.get_vfd_handle())
            with contextlib.suppress(OSError, RuntimeError):
                self._file.close()
        return EpisodeError(
            f"{self.path}: cannot write: {error}. Its first {self.flushed_rows} rows are on disk"
        )

    def _write_pending(self) -> None:
        rows, self._pending = self._pending, []
        if not rows:
            return
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
            layout.COMMAND_SOURCE: [
                layout.COMMAND_SOURCES.get(row.command_source, layout.COMMAND_SOURCES["other"])
                for row in rows
            ],
            layout.INTERVENTIONS: ["; ".join(row.interventions) for row in rows],
            layout.REASONINGS: [self.header.instruction] * len(rows),
        }
        begin = self.rows - len(rows)
        for path, values in columns.items():
            dataset = self._floats[path]
            dataset.resize(self.rows, axis=0)
            dataset[begin:] = values


def _create(folder: Path) -> tuple[int, h5py.File]:
    """Claim the first free index by creating its .partial exclusively (mode 'x' opens with O_EXCL)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = 0
        while True:
            if not layout.episode_path(folder, index).exists():
                try:
                    file = h5py.File(layout.partial_path(folder, index), "x")
                except FileExistsError:
                    file = None
                if file is not None:
                    if not layout.episode_path(folder, index).exists():
                        return index, file
                    # another writer finished this very index between the check and the claim
                    file.close()
                    layout.partial_path(folder, index).unlink()
            index += 1
    except OSError as error:
        raise EpisodeError(f"{folder}: cannot write episodes here: {error}. Choose another folder") from error


def _create_datasets(file: h5py.File, header: EpisodeHeader) -> tuple[dict, dict]:
    """Everything exists before the first row, so that a file cut short has the whole layout."""
    small: dict[str, h5py.Dataset] = {}

    def per_row(path: str, width: tuple[int, ...], dtype) -> None:
        small[path] = file.create_dataset(
            path, (0, *width), dtype, maxshape=(None, *width), chunks=(_BLOCK_ROWS, *width)
        )

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
    images = {
        camera: file.create_dataset(
            layout.image_path(camera),
            (0, height, width, 3),
            np.uint8,
            maxshape=(None, height, width, 3),
            chunks=(1, height, width, 3),
        )
        for camera, (height, width) in header.cameras.items()
    }
    file.create_dataset(layout.LANGUAGE, data=[header.instruction], dtype=layout.TEXT)
    file.create_dataset(layout.RIG, data=header.rig, dtype=layout.TEXT)
    _write_attributes(file, header)
    return small, images


def _write_attributes(file: h5py.File, header: EpisodeHeader) -> None:
    file.attrs[layout.SIM_ATTR] = np.bool_(header.sim)
    values = dataclasses.asdict(header)
    for elsewhere in ("cameras", "rig", "sim"):
        del values[elsewhere]
    streams = file[layout.STREAMS]
    streams.attrs["names"] = np.array(values.pop("stream_names"), dtype=layout.TEXT)
    streams.attrs["topics"] = np.array(values.pop("stream_topics"), dtype=layout.TEXT)
    attrs = file[layout.VLA].attrs
    attrs["format_version"] = layout.FORMAT_VERSION
    attrs["colour_order"] = layout.COLOUR_ORDER
    for key, value in values.items():
        attrs[key] = np.array(value, dtype=layout.TEXT) if isinstance(value, list) else value
    attrs["started"] = header.started or _now()
    attrs.update(end_reason="", label="none", ended="")  # an empty end_reason: never closed


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
