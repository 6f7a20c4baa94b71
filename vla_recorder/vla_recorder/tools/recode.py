"""Raw frames -> JPEG and back, as a new file; everything else is copied bit for bit."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.datasets import Frames, JpegFrames, append_lengths
from vla_recorder.episode.images import decode, encode
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.tools.progress import bar
from vla_recorder.tools.whole import new_file

_LENGTHS_ROWS = 64  # how many rows of /compress_len are written at once
_AHEAD_ROWS = 2  # rows under way per worker: what bounds the memory


def recode(source: Path, target: Path, form: str, quality: int = 95, colour: str = "act") -> None:
    """Write `target` with the frames of `source` in `form` ("raw" or "jpeg").

    `quality` and `colour` (layout.JPEG_COLOURS) are for JPEG. Raises EpisodeError when the source is unfinished, has
    that form already or cannot be read, and when the target exists or cannot be written; then there is no target.
    """
    with EpisodeReader(source) as episode:
        _check(episode, form, colour)
        with new_file(target) as partial:
            with _writing(partial, f"{source}: cannot be converted to {target}") as made:
                _copy_others(episode.file, made)
                _mark(made, form, quality, colour)
                if form == "jpeg":
                    _to_jpeg(episode, made, quality, colour)
                else:
                    _to_raw(episode, made)
            _check_made(source, partial, target)


@contextlib.contextmanager
def _writing(path: Path, failure: str) -> Iterator[h5py.File]:
    """A new HDF5 file. Raises EpisodeError, beginning with `failure`, when the disk refuses."""
    made = h5py.File(path, "w", locking=False)  # new_file has a lock on it
    try:
        yield made
        made.flush()
    except (OSError, RuntimeError) as error:  # h5py raises either
        # HDF5 would try to write again at the end of the process, and crash it: let it write into the void
        with open(os.devnull, "r+b", buffering=0) as void:
            os.dup2(void.fileno(), made.id.get_vfd_handle())
        with contextlib.suppress(OSError, RuntimeError):
            made.close()
        said = re.search(r"error message = '([^']+)'", str(error))  # the system's words in HDF5's long ones
        raise EpisodeError(f"{failure}: {said[1] if said else error}") from error
    finally:
        if made:
            made.close()


def _check(episode: EpisodeReader, form: str, colour: str) -> None:
    if episode.path.name.endswith(layout.PARTIAL_SUFFIX):
        raise EpisodeError(f"{episode.path}: is unfinished; `episode recover` makes an episode of it")
    if episode.image_form == form:
        raise EpisodeError(f"{episode.path}: its frames are {form} already")
    if colour != "act" and layout.VLA not in episode.file:
        raise EpisodeError(f"{episode.path}: a plain ACT file cannot say that its colours are '{colour}'")


def _check_made(source: Path, partial: Path, target: Path) -> None:
    found = problems(partial)
    if found and not problems(source):
        raise EpisodeError(f"{target}: was not kept, for the new file is not valid: {found[0]}")


def _copy_others(source: h5py.File, made: h5py.File) -> None:
    """All but the cameras' frames and /compress_len; the root attribute `compress` stays as it is here."""
    _copy_attributes(source, made)
    for name in source:
        if f"/{name}" == layout.COMPRESS_LEN:
            continue
        if name != "observations":
            source.copy(name, made)
            continue
        observations = made.create_group(name)
        _copy_attributes(source[name], observations)
        for inner in source[name]:
            if inner == "images":
                _copy_attributes(source[layout.IMAGES], made.create_group(layout.IMAGES))
            else:
                source[name].copy(inner, observations)


def _copy_attributes(source: h5py.Group, made: h5py.Group) -> None:
    """With their very types: h5py's own assignment would choose new ones."""
    for name in source.attrs:
        old = source.attrs.get_id(name)
        value = np.empty(old.shape, old.dtype)
        old.read(value)
        h5py.h5a.create(made.id, name.encode(), old.get_type(), old.get_space()).write(value)


def _mark(made: h5py.File, form: str, quality: int, colour: str) -> None:
    if form == "jpeg":
        made.attrs[layout.COMPRESS_ATTR] = np.bool_(True)
    elif layout.COMPRESS_ATTR in made.attrs:
        del made.attrs[layout.COMPRESS_ATTR]
    if layout.VLA not in made:
        return
    attrs = made[layout.VLA].attrs
    attrs["image_form"] = form
    if form == "jpeg":
        attrs["jpeg_quality"], attrs["jpeg_colour"] = quality, colour
    else:
        for name in {"jpeg_quality", "jpeg_colour"} & set(attrs):
            del attrs[name]


def _to_jpeg(episode: EpisodeReader, made: h5py.File, quality: int, colour: str) -> None:
    cameras = {name: episode.images(name) for name in episode.camera_names}
    frames = {name: JpegFrames(made, name, images.shape[1:3]) for name, images in cameras.items()}
    C = len(cameras)
    made.create_dataset(
        layout.COMPRESS_LEN, (C, 0), layout.FLOAT, maxshape=(C, None), chunks=(C, _LENGTHS_ROWS)
    )
    lengths: list[dict[str, int]] = []
    encoded = _in_order(
        episode, lambda name, t: cameras[name][t], lambda _at, image: encode(image, quality, colour)
    )
    for t, row in enumerate(encoded):
        for name, jpeg in row.items():
            frames[name].append(t, jpeg)
        lengths.append({name: len(jpeg) for name, jpeg in row.items()})
        if len(lengths) == _LENGTHS_ROWS or t + 1 == len(episode):
            append_lengths(made, t + 1 - len(lengths), lengths)
            lengths = []


def _to_raw(episode: EpisodeReader, made: h5py.File) -> None:
    shapes = {name: episode.images(name).shape[1:] for name in episode.camera_names}
    frames = {name: Frames(made, name, shape[:2]) for name, shape in shapes.items()}

    def decoded(at: str, jpeg: bytes) -> np.ndarray:
        try:
            return decode(jpeg, episode.jpeg_colour)
        except ValueError as error:
            raise EpisodeError(f"{episode.path}: {at} {error}") from None

    for t, row in enumerate(_in_order(episode, episode.encoded, decoded)):
        for name, image in row.items():
            if image.shape != shapes[name]:
                other = f"is {image.shape}, the first one {shapes[name]}"
                raise EpisodeError(f"{episode.path}: {layout.image_path(name)}: row {t} {other}")
            frames[name].append(t, image)


def _in_order(episode: EpisodeReader, read: Callable, work: Callable) -> Iterator[dict]:
    """Camera -> work(place, read(camera, t)) for each row t, worked on by several threads.

    OpenCV lets go of Python's lock; reading stays in this thread, for HDF5 has one lock for everything.
    """
    workers = os.cpu_count() or 1
    waiting: deque[dict] = deque()
    with ThreadPoolExecutor(workers) as pool, bar(len(episode), episode.path.name) as progress:
        for t in range(len(episode)):
            places = {name: f"{layout.image_path(name)}: row {t}" for name in episode.camera_names}
            waiting.append({name: pool.submit(work, at, read(name, t)) for name, at in places.items()})
            if len(waiting) > _AHEAD_ROWS * workers:
                yield {name: future.result() for name, future in waiting.popleft().items()}
            progress.update()
        while waiting:
            yield {name: future.result() for name, future in waiting.popleft().items()}
