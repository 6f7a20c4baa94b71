"""Reads episode files: ours (also a .partial) and the plain files of the ACT family, raw or JPEG."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import yaml

from vla_recorder.episode import layout
from vla_recorder.episode.images import JpegFrames
from vla_recorder.episode.journal import journal_of
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.transactions import TransactionalFile

_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # h5py raises any of them


class EpisodeReader:
    """One open episode; data is read when asked for. Use it as a context manager.

    `len(episode)` is the number of rows T. `qpos`, `qvel`, `effort` (T, S), `action`, `command` (T, A)
    float32 are HDF5 datasets: index them (`episode.action[10:20]`), which copies just that, and slice them with
    `[:len(episode)]` when the file is a .partial. `images(cam)` (T, H, W, 3) uint8 RGB is indexed the same way
    for both image forms. Things a plain ACT file lacks (`stamps_ns`, `rig_text`, ...) are None there.

    Raises EpisodeError when the file is missing, is no HDF5 file, or has no `/action`; as a context manager also for
    whatever HDF5 says while it is read: of a file whose disk failed, one part may be readable and the next one not.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with contextlib.ExitStack() as opened:
            try:
                self.file = opened.enter_context(self._open(opened))
                found = layout.ACTION in self.file
            except FileNotFoundError as error:
                raise EpisodeError(f"{self.path}: no such file") from error
            except (OSError, RuntimeError, KeyError) as error:
                raise EpisodeError(f"{self.path}: cannot be read as HDF5: {error}") from error
            if not found:
                raise EpisodeError(f"{self.path}: not an episode: it has no dataset {layout.ACTION}")
            self._opened = opened.pop_all()

    def __enter__(self) -> EpisodeReader:
        return self

    def __exit__(self, _kind, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
        if isinstance(error, _HDF5_ERRORS) and _in_hdf5(traceback):
            raise EpisodeError(f"{self.path}: is damaged: {error}") from error

    def close(self) -> None:
        self._opened.close()

    def _open(self, opened: contextlib.ExitStack) -> h5py.File:
        """As long as there is a journal, a file is complete only together with it."""
        journal = journal_of(self.path)
        if journal is not None:
            with contextlib.suppress(FileNotFoundError):
                store = TransactionalFile.open(self.path, journal, write=False)
                opened.callback(store.close)
                return store.hdf5("r")
        return h5py.File(self.path, "r")

    @cached_property
    def _rows(self) -> int:
        # a file cut short may hold frames whose numbers were not flushed: the rows that are complete count
        names = [layout.ACTION, layout.QPOS, layout.STAMP, *map(layout.image_path, self.camera_names)]
        return min(self.file[name].shape[0] for name in names if name in self.file)

    def __len__(self) -> int:
        return self._rows

    def _dataset(self, path: str) -> h5py.Dataset:
        if path not in self.file:
            raise EpisodeError(f"{self.path}: has no dataset {path}")
        return self.file[path]

    @property
    def qpos(self) -> h5py.Dataset:
        return self._dataset(layout.QPOS)

    @property
    def qvel(self) -> h5py.Dataset:
        return self._dataset(layout.QVEL)

    @property
    def effort(self) -> h5py.Dataset:
        return self._dataset(layout.EFFORT)

    @property
    def action(self) -> h5py.Dataset:
        return self._dataset(layout.ACTION)

    @property
    def command(self) -> h5py.Dataset:
        """(T, A) as sent, after the gate."""
        return self._dataset(layout.COMMAND)

    @property
    def leader(self) -> h5py.Dataset | None:
        """(T, A) the leader arms as read; None where they were not recorded beside the action."""
        return self.file.get(layout.LEADER)

    @cached_property
    def camera_names(self) -> list[str]:
        """In the rig file's order; alphabetical where the file does not know."""
        if layout.IMAGES not in self.file:
            return []
        present = list(self.file[layout.IMAGES])
        return [name for name in self.stream_names if name in present] or present

    @cached_property
    def image_form(self) -> str:
        """One of layout.IMAGE_FORMS, by the datasets' shape: attributes differ between writers."""
        return "jpeg" if any(self._images_of(name).ndim == 2 for name in self.camera_names) else "raw"

    @property
    def jpeg_colour(self) -> str:
        """One of layout.JPEG_COLOURS; a file that does not say was written as the ACT family writes."""
        return self.attributes.get("jpeg_colour", "act")

    def images(self, camera: str) -> h5py.Dataset | JpegFrames:
        """(T, H, W, 3) uint8 RGB; `[t]` or `[a:b]` reads, and decodes JPEG. EpisodeError: no such camera."""
        dataset = self._images_of(camera)
        if dataset.ndim == 4:
            return dataset
        if dataset.ndim == 2:
            return JpegFrames(dataset, len(self), self.jpeg_colour)
        expected = "expected (T, H, W, 3), or (T, P) for JPEG"
        raise EpisodeError(f"{self.path}: {dataset.name} is {dataset.ndim}-D, {expected}")

    def encoded(self, camera: str, t: int) -> bytes:
        """The JPEG bytes of a frame as they are in the file. EpisodeError where frames are raw."""
        frames = self.images(camera)
        if not isinstance(frames, JpegFrames):
            raise EpisodeError(f"{self.path}: camera '{camera}' has raw frames, not JPEG")
        return frames.encoded(t)

    def _images_of(self, camera: str) -> h5py.Dataset:
        path = layout.image_path(camera)
        if path not in self.file:
            raise EpisodeError(f"{self.path}: no camera '{camera}'; it has {', '.join(self.camera_names)}")
        return self.file[path]

    @property
    def sim(self) -> bool:
        return bool(self.file.attrs.get(layout.SIM_ATTR, False))

    @cached_property
    def instruction(self) -> str:
        """The task text; empty when the file has none."""
        if layout.LANGUAGE not in self.file:
            return ""
        return self.file[layout.LANGUAGE].asstr()[0]

    @cached_property
    def substeps(self) -> list[str]:
        """(T,) what was being done at each row; the instruction where nothing finer was given."""
        if layout.REASONINGS not in self.file:
            return [self.instruction] * len(self)
        return list(self.file[layout.REASONINGS].asstr()[: len(self)])

    @cached_property
    def quality(self) -> dict | None:
        """What `vla_recorder.quality` said when the episode was closed; None where it was not asked."""
        text = self.attributes.get("quality")
        return json.loads(text) if text else None

    @cached_property
    def attributes(self) -> dict:
        """The attributes of `/vla` as plain values; empty for a plain ACT file."""
        return dict(self._attributes(layout.VLA))

    @cached_property
    def rig_text(self) -> str | None:
        return self.file[layout.RIG].asstr()[()] if layout.RIG in self.file else None

    @property
    def rig_name(self) -> str:
        if not self.rig_text:
            return "not recorded"
        try:
            return (yaml.safe_load(self.rig_text) or {}).get("name", "?")
        except yaml.YAMLError:
            return "unreadable"

    @property
    def label(self) -> str:
        return self.attributes.get("label", "none")

    @property
    def end_reason(self) -> str:
        """Why the recording ended; empty when it was never closed (a .partial) or the file does not know."""
        return self.attributes.get("end_reason", "")

    @property
    def control_rate_hz(self) -> float | None:
        return self.attributes.get("control_rate_hz")

    @property
    def state_names(self) -> list[str]:
        return self.attributes.get("state_names") or [f"state {i}" for i in range(self.qpos.shape[1])]

    @property
    def action_names(self) -> list[str]:
        return self.attributes.get("action_names") or [f"action {i}" for i in range(self.action.shape[1])]

    @property
    def stream_names(self) -> list[str]:
        return self._attributes(layout.STREAMS).get("names", [])

    @property
    def stream_topics(self) -> list[str]:
        return self._attributes(layout.STREAMS).get("topics", [])

    @cached_property
    def stamps_ns(self) -> np.ndarray | None:
        """(T,) int64 grid time of each row."""
        return self._rows_of(layout.STAMP)

    @cached_property
    def stream_stamps_ns(self) -> np.ndarray | None:
        """(T, N) int64 in the order of `stream_names`; layout.NO_STAMP where there was no message."""
        return self._rows_of(layout.STREAM_STAMP)

    @cached_property
    def ages_s(self) -> np.ndarray | None:
        """(T, N) float32."""
        return self._rows_of(layout.STREAM_AGE)

    @cached_property
    def fresh(self) -> np.ndarray | None:
        """(T, N) bool."""
        return self._rows_of(layout.STREAM_FRESH)

    @cached_property
    def repeated(self) -> np.ndarray | None:
        """(T, N) bool."""
        return self._rows_of(layout.STREAM_REPEATED)

    @cached_property
    def command_sources(self) -> list[str]:
        """(T,) who commanded at each row."""
        names = {value: name for name, value in layout.COMMAND_SOURCES.items()}
        codes = self._rows_of(layout.COMMAND_SOURCE)
        return [] if codes is None else [names[int(code)] for code in codes]

    @cached_property
    def interventions(self) -> list[str]:
        """(T,) what the gate changed; empty text where nothing."""
        if layout.INTERVENTIONS not in self.file:
            return []
        return list(self.file[layout.INTERVENTIONS].asstr()[: len(self)])

    def _rows_of(self, path: str) -> np.ndarray | None:
        return self.file[path][: len(self)] if path in self.file else None

    def _attributes(self, group: str) -> Mapping:
        if group not in self.file:
            return {}
        return {
            key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for key, value in self.file[group].attrs.items()
        }


def _in_hdf5(traceback: TracebackType | None) -> bool:
    """Whether an error was raised by h5py."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith("h5py.")
