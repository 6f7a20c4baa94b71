"""Says what is wrong with an episode file, in words. An empty list means valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import yaml

from vla_recorder.episode import layout
from vla_recorder.episode.journal import is_live, journal_of
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader

_SAMPLES = 16  # JPEG frames of each camera that are decoded


def problems(
    path: str | Path,
    every_frame: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """What keeps the form of the ACT family, raw or JPEG (or our additions, where present), from being right.

    Checks paths, dtypes, shapes, equal lengths, finite numbers, rising stamps, and that JPEG frames can be decoded:
    some of each camera, or `every_frame`. Raw frames are read only then: any bytes are a picture. `progress` is told
    how many frames are read, and of how many.
    """
    try:
        with EpisodeReader(path) as episode:
            found = _root(episode) + _floats(episode) + _images(episode) + _texts(episode)
            if layout.VLA in episode.file:
                found += _ours(episode)
            found += [] if found else _contents(episode) + _stream_stamps(episode)
            return found + (_frames(episode, every_frame, progress) if not found else [])
    except (EpisodeError, OSError) as error:
        return [str(error) if str(path) in str(error) else f"{path}: cannot be read: {error}"]


def _root(episode: EpisodeReader) -> list[str]:
    found = []
    attrs = episode.file.attrs
    if layout.SIM_ATTR not in attrs:
        found.append("attribute 'sim' is missing (ACT's loader needs it)")
    elif not isinstance(attrs[layout.SIM_ATTR], np.bool_):
        found.append(f"attribute 'sim' is {type(attrs[layout.SIM_ATTR]).__name__}, expected bool")
    compressed = bool(attrs.get(layout.COMPRESS_ATTR, False))
    if compressed != (episode.image_form == "jpeg") and episode.camera_names:
        found.append(f"attribute 'compress' is {compressed}, but frames are {episode.image_form}")
    if len(episode) == 0:
        found.append("has no rows")
    if episode.path.name.endswith(layout.PARTIAL_SUFFIX):
        found.append("was never closed (.partial): the recording was cut short")
    elif _has_dead_journal(episode.path):
        found.append("its journal is still there: it was cut off at its very end; see `episode recover`")
    return found


def _has_dead_journal(path: Path) -> bool:
    journal = journal_of(path)
    try:
        return journal is not None and not is_live(journal)
    except FileNotFoundError:
        return False


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
    jpeg = episode.image_form == "jpeg"
    for camera in episode.camera_names:
        dataset = episode.file[layout.image_path(camera)]
        expected = "(rows, bytes) uint8" if jpeg else "(rows, H, W, 3) uint8"
        if (
            dataset.dtype != np.uint8
            or dataset.ndim != (2 if jpeg else 4)
            or not (jpeg or dataset.shape[-1] == 3)
        ):
            found.append(f"{dataset.name} is {dataset.shape} {dataset.dtype}, expected {expected}")
            continue
        found += _length(episode, dataset)
        if not jpeg and dataset.chunks is not None and dataset.chunks != (1, *dataset.shape[1:]):
            found.append(f"{dataset.name} has chunks {dataset.chunks}, expected one frame each")
    if jpeg and layout.VLA in episode.file:
        found += _lengths(episode)
    return found


def _lengths(episode: EpisodeReader) -> list[str]:
    dataset = episode.file.get(layout.COMPRESS_LEN)
    shape = (len(episode.camera_names), episode.action.shape[0])
    if dataset is None or dataset.shape != shape or dataset.dtype != layout.FLOAT:
        found = "missing" if dataset is None else f"{dataset.shape} {dataset.dtype}"
        return [f"{layout.COMPRESS_LEN} is {found}, expected {shape} float32"]
    padded = [episode.file[layout.image_path(camera)].shape[1] for camera in sorted(episode.camera_names)]
    bad = (dataset[:] <= 0) | (dataset[:] > np.array(padded)[:, None])
    return [f"{layout.COMPRESS_LEN} does not fit the frames of {int(bad.sum())} rows"] if bad.any() else []


def _frames(episode: EpisodeReader, every_frame: bool, progress: Callable[[int, int], None]) -> list[str]:
    """The first frame of each camera that cannot be read, or is of another size than the first one."""
    T, found = len(episode), []
    if not every_frame and episode.image_form == "raw":
        return []
    rows = range(T) if every_frame else sorted(set(np.linspace(0, T - 1, min(T, _SAMPLES)).astype(int)))
    for i, camera in enumerate(episode.camera_names):
        frames = episode.images(camera)
        try:
            for k, t in enumerate(rows):
                progress(i * len(rows) + k, len(rows) * len(episode.camera_names))
                if frames[t].shape != frames.shape[1:]:
                    found.append(
                        f"{layout.image_path(camera)}: row {t} is {frames[t].shape}, expected {frames.shape[1:]}"
                    )
                    break
        except (EpisodeError, OSError) as error:
            found.append(str(error))
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


def _contents(episode: EpisodeReader) -> list[str]:
    """Texts that cannot be read; what is no UTF-8 at all raises EpisodeError."""
    _ = episode.instruction, episode.substeps, episode.interventions
    readers = {
        "its rig file": lambda: yaml.safe_load(episode.rig_text or ""),
        "its quality": lambda: episode.quality,
    }
    found = []
    for what, read in readers.items():
        try:
            read()
        except (yaml.YAMLError, ValueError) as error:
            found.append(f"{what} is damaged: {error}")
    return found


def _stream_stamps(episode: EpisodeReader) -> list[str]:
    """Rows use newer messages, or the same again; one that is not fresh may be of a clock that was set back."""
    found = []
    for i, name in enumerate(episode.stream_names):
        stamps_ns = episode.stream_stamps_ns[:, i]
        used = np.flatnonzero(episode.fresh[:, i] & (stamps_ns != layout.NO_STAMP))
        back = np.flatnonzero(np.diff(stamps_ns[used]) < 0)
        if back.size:
            found.append(f"{layout.STREAM_STAMP}: {name} goes back at row {used[back[0] + 1]}")
    return found


def _ours(episode: EpisodeReader) -> list[str]:
    found = []
    version = episode.attributes.get("format_version")
    if version not in layout.READABLE_VERSIONS:
        known = ", ".join(map(str, layout.READABLE_VERSIONS))
        found.append(f"format_version is {version}, this software knows {known}")
    if version != 1 and episode.attributes.get("image_form") != episode.image_form:
        found.append(
            f"image_form is {episode.attributes.get('image_form')}, but frames are {episode.image_form}"
        )
    if episode.jpeg_colour not in layout.JPEG_COLOURS:
        found.append(f"jpeg_colour is {episode.jpeg_colour}, expected {' or '.join(layout.JPEG_COLOURS)}")
    optional = [layout.LEADER] if layout.LEADER in episode.file else []
    required = [layout.RIG, layout.STAMP, layout.COMMAND, layout.COMMAND_SOURCE, layout.INTERVENTIONS]
    for path in required + optional:
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
    for dataset in (episode.file.get(layout.COMMAND), episode.leader):
        found += [] if dataset is None else _finite(dataset, may_be_unmeasured=True)
    for path, names in ((layout.ACTION, "action_names"), (layout.QPOS, "state_names")):
        known = len(episode.attributes.get(names, []))
        if path in episode.file and episode.file[path].ndim == 2 and known != episode.file[path].shape[1]:
            found.append(f"{names} names {known} columns, {path} has {episode.file[path].shape[1]}")
    if episode.stamps_ns is not None and (np.diff(episode.stamps_ns) <= 0).any():
        found.append(
            f"{layout.STAMP} does not rise: row {int((np.diff(episode.stamps_ns) <= 0).argmax()) + 1}"
        )
    return found
