"""Says what is wrong with an episode file, in words. An empty list means valid."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader


def problems(path: str | Path) -> list[str]:
    """What keeps the raw form of the ACT family (or our additions, where present) from being right.

    Checks paths, dtypes, shapes, equal lengths, finite numbers and rising stamps; frames are not read.
    """
    try:
        with EpisodeReader(path) as episode:
            found = _root(episode) + _floats(episode) + _images(episode) + _texts(episode)
            if layout.VLA in episode.file:
                found += _ours(episode)
            return found
    except EpisodeError as error:
        return [str(error)]


def _root(episode: EpisodeReader) -> list[str]:
    found = []
    attrs = episode.file.attrs
    if layout.SIM_ATTR not in attrs:
        found.append("attribute 'sim' is missing (ACT's loader needs it)")
    elif not isinstance(attrs[layout.SIM_ATTR], np.bool_):
        found.append(f"attribute 'sim' is {type(attrs[layout.SIM_ATTR]).__name__}, expected bool")
    if attrs.get(layout.COMPRESS_ATTR, False):
        found.append("attribute 'compress' is set: frames are JPEG, not the raw form")
    if len(episode) == 0:
        found.append("has no rows")
    if episode.path.name.endswith(layout.PARTIAL_SUFFIX):
        found.append("was never closed (.partial): the recording was cut short")
    return found


def _floats(episode: EpisodeReader) -> list[str]:
    found = []
    for path in (layout.ACTION, layout.QPOS, layout.QVEL, layout.EFFORT):
        dataset = episode.file.get(path)
        if dataset is None:
            found.append(f"{path} is missing")
        elif dataset.dtype != layout.FLOAT or dataset.ndim != 2:
            found.append(f"{path} is {dataset.shape} {dataset.dtype}, expected (rows, columns) float32")
        else:
            may_be_unmeasured = path in (layout.QVEL, layout.EFFORT)
            found += _length(episode, dataset) + _finite(dataset, may_be_unmeasured)
    widths = {
        p: episode.file[p].shape[1:] for p in (layout.QPOS, layout.QVEL, layout.EFFORT) if p in episode.file
    }
    if len(set(widths.values())) > 1:
        found.append(f"qpos, qvel and effort differ in width: {widths}")
    return found


def _finite(dataset: h5py.Dataset, may_be_unmeasured: bool = False) -> list[str]:
    """A column that may be unmeasured (qvel, effort, command) and is NaN throughout is no problem."""
    bad = ~np.isfinite(dataset[:])
    if may_be_unmeasured:
        bad = bad[:, ~np.isnan(dataset[:]).all(axis=0)]
    bad_rows = int(bad.any(axis=1).sum())
    return [f"{dataset.name} is not finite in {bad_rows} of {dataset.shape[0]} rows"] if bad_rows else []


def _length(episode: EpisodeReader, dataset: h5py.Dataset) -> list[str]:
    T = episode.action.shape[0]
    return (
        []
        if dataset.shape[0] == T
        else [f"{dataset.name} has {dataset.shape[0]} rows, {layout.ACTION} has {T}"]
    )


def _images(episode: EpisodeReader) -> list[str]:
    found = [] if episode.camera_names else [f"{layout.IMAGES} has no camera"]
    for camera in episode.camera_names:
        dataset = episode.file[layout.image_path(camera)]
        if dataset.dtype != np.uint8 or dataset.ndim != 4 or dataset.shape[-1] != 3:
            found.append(f"{dataset.name} is {dataset.shape} {dataset.dtype}, expected (rows, H, W, 3) uint8")
            continue
        found += _length(episode, dataset)
        if dataset.chunks is not None and dataset.chunks != (1, *dataset.shape[1:]):
            found.append(f"{dataset.name} has chunks {dataset.chunks}, expected one frame each")
    return found


def _texts(episode: EpisodeReader) -> list[str]:
    found = []
    for path in (layout.LANGUAGE, layout.REASONINGS):
        dataset = episode.file.get(path)
        if dataset is None:
            if layout.VLA in episode.file:
                found.append(f"{path} is missing (DexVLA's loader needs it)")
        elif h5py.check_string_dtype(dataset.dtype) is None:
            found.append(f"{path} is {dataset.dtype}, expected UTF-8 text")
        elif path == layout.REASONINGS:
            found += _length(episode, dataset)
        elif dataset.shape != (1,):
            found.append(f"{path} has shape {dataset.shape}, expected (1,)")
    return found


def _ours(episode: EpisodeReader) -> list[str]:
    found = []
    version = episode.attributes.get("format_version")
    if version not in layout.READABLE_VERSIONS:
        known = ", ".join(map(str, layout.READABLE_VERSIONS))
        found.append(f"format_version is {version}, this software knows {known}")
    for path in (layout.RIG, layout.STAMP, layout.COMMAND, layout.COMMAND_SOURCE, layout.INTERVENTIONS):
        if path not in episode.file:
            found.append(f"{path} is missing")
        elif path != layout.RIG:
            found += _length(episode, episode.file[path])
    N = len(episode.stream_names)
    for path in (layout.STREAM_STAMP, layout.STREAM_AGE, layout.STREAM_FRESH, layout.STREAM_REPEATED):
        dataset = episode.file.get(path)
        if dataset is None or dataset.ndim != 2 or dataset.shape[1] != N:
            found.append(f"{path} must be (rows, {N} streams)")
        else:
            found += _length(episode, dataset)
    if layout.COMMAND in episode.file:
        found += _finite(episode.command, may_be_unmeasured=True)
    for path, names in ((layout.ACTION, "action_names"), (layout.QPOS, "state_names")):
        known = len(episode.attributes.get(names, []))
        if path in episode.file and episode.file[path].ndim == 2 and known != episode.file[path].shape[1]:
            found.append(f"{names} names {known} columns, {path} has {episode.file[path].shape[1]}")
    if episode.stamps_ns is not None and (np.diff(episode.stamps_ns) <= 0).any():
        found.append(
            f"{layout.STAMP} does not rise: row {int((np.diff(episode.stamps_ns) <= 0).argmax()) + 1}"
        )
    return found
