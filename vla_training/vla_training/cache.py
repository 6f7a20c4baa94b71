"""Images at the model's size, made once: a memory-mapped (T, 3, s, s) uint8 file per episode and camera.

A raw frame is 0.9 MB, of which a model with 112 px sees 38 kB. What is done to a frame is the model's own doing
(Preprocessor.jpeg and .stretch), the same as in Policy.predict: a model is trained on exactly what it will be
served. What a published model does after these, its crop, is left to the batch: see vla_training.augment.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vla_model.preprocess import Preprocessor
from vla_recorder.episode.reader import EpisodeReader
from vla_training.episodes import EpisodeSet, TrainingError


class ImageCache:
    """Stretched images of an EpisodeSet. `images(episode, rows)` gives them in the order of its cameras."""

    def __init__(self, data: EpisodeSet, preprocess: Preprocessor, folder: Path | str):
        """Opens what the folder has, makes what is missing. TrainingError when the folder cannot be written."""
        self.folder = Path(folder)
        self._size = preprocess.size
        files = [
            [(camera, self._file(episode.path, camera, preprocess)) for camera in data.source.camera_names]
            for episode in data.episodes
        ]
        self._fill(data, files, preprocess)
        self._arrays = [[np.load(file, mmap_mode="r") for _, file in row] for row in files]

    def images(self, episode: int, row: int, out: np.ndarray) -> None:
        """Copy the images of one row into `out`, (N, 3, s, s) uint8."""
        for camera, array in enumerate(self._arrays[episode]):
            out[camera] = array[row]

    def empty(self, batch: int) -> np.ndarray:
        """An uninitialised (batch, N, 3, s, s) uint8 array to copy into."""
        return np.empty((batch, len(self._arrays[0]), 3, self._size, self._size), np.uint8)

    def _file(self, path: Path, camera: str, preprocess: Preprocessor) -> Path:
        """Named after all that decides its content: the episode file as it is now, and how images are resized."""
        stat = path.stat()
        identity = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, *preprocess.stretch_identity)
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        return self.folder / f"{path.stem}-{camera}-{preprocess.size}px-{digest}.npy"

    def _fill(self, data: EpisodeSet, files: list, preprocess: Preprocessor) -> None:
        todo = [
            (episode, camera, file)
            for episode, row in zip(data.episodes, files, strict=True)
            for camera, file in row
            if not file.exists()
        ]
        frames = sum(len(episode) for episode, _, _ in todo)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tqdm(total=frames, desc="resizing images", unit="frame", disable=not todo) as progress:
                for episode, camera, file in todo:
                    _write(file, _resized(episode.path, camera, preprocess, progress))
        except OSError as error:
            reason = error.strerror or error
            raise TrainingError(
                f"{self.folder}: cannot keep resized images here: {reason}; choose a folder with --cache"
            ) from error


def _resized(path: Path, camera: str, preprocess: Preprocessor, progress: tqdm) -> np.ndarray:
    """(T, 3, s, s) uint8. A frame that the recorder marked as repeated is not resized again."""
    with EpisodeReader(path) as reader:
        raw, T = reader.images(camera), len(reader)
        out = np.empty((T, 3, preprocess.size, preprocess.size), np.uint8)
        newest = _newest_rows(reader, camera)
        frame = np.empty(raw.shape[1:], np.uint8)
        for row in range(T):
            if newest[row] == row:
                raw.read_direct(frame, np.s_[row])  # h5py's raw[rows] with a list of rows takes 50 ms a frame
                seen = torch.from_numpy(preprocess.jpeg(frame)).unsqueeze(0)
                out[row] = preprocess.stretch(seen)[0].numpy()
            progress.update()
        return out[newest]


def _newest_rows(reader: EpisodeReader, camera: str) -> np.ndarray:
    """(T,) for each row the row whose frame it shows: itself, or the one that it repeats."""
    rows = np.arange(len(reader))
    if reader.repeated is None or camera not in reader.stream_names:
        return rows
    repeated = reader.repeated[:, reader.stream_names.index(camera)].copy()
    repeated[:1] = False
    return np.maximum.accumulate(np.where(repeated, 0, rows))


def _write(file: Path, array: np.ndarray) -> None:
    """Appears at once: another training in the same folder never reads half a file."""
    partial = file.with_suffix(f".partial{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            np.save(stream, array)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
