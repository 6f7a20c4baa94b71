"""Camera frames as JPEG: encoding, decoding, and a view of a JPEG dataset that looks like raw frames."""

from __future__ import annotations

import operator

import cv2
import h5py
import numpy as np

from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError


def encode(image: np.ndarray, quality: int, colour: str) -> bytes:
    """JPEG of an (H, W, 3) uint8 RGB image. `colour` is one of layout.JPEG_COLOURS; OpenCV expects BGR."""
    if colour == "standard":
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode(encoded: bytes | np.ndarray, colour: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of JPEG bytes, zero padding allowed. Raises ValueError when they are no image."""
    buffer = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    if image is None:
        raise ValueError("cannot be decoded as JPEG")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if colour == "standard" else image


class JpegFrames:
    """A camera's (T, P) padded JPEG rows as (T, H, W, 3) uint8 RGB frames, decoded when asked for.

    `frames[t]` is one frame, `frames[a:b:c]` several; `shape`, `dtype`, `ndim` and `len` are those of the raw
    form. Raises EpisodeError, which names camera and row, for a frame that cannot be decoded.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, dataset: h5py.Dataset, rows: int, colour: str):
        self._dataset, self._rows, self._colour = dataset, rows, colour
        size = (dataset.attrs.get(layout.HEIGHT_ATTR), dataset.attrs.get(layout.WIDTH_ATTR))
        self._size = None if None in size else (int(size[0]), int(size[1]))

    def __len__(self) -> int:
        return self._rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3). Files that do not store the size (plain ACT++ ones) are asked for their first frame."""
        if self._size is None:
            self._size = self._frame(0).shape[:2] if self._rows else (0, 0)
        return (self._rows, *self._size, 3)

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        if not isinstance(rows, slice):
            return self._frame(operator.index(rows))
        wanted = range(*rows.indices(self._rows))
        frames = [self._frame(t) for t in wanted]
        return np.stack(frames) if frames else np.empty((0, *self.shape[1:]), np.uint8)

    def encoded(self, t: int) -> bytes:
        """The JPEG bytes of row t without padding."""
        if not -self._rows <= t < self._rows:
            raise IndexError(f"row {t} of {self._rows}")
        # a JPEG ends with FF D9, so that the padding can be told without /compress_len, whose order of cameras
        # differs between writers
        return self._dataset[t % self._rows].tobytes().rstrip(b"\0")

    def _frame(self, t: int) -> np.ndarray:
        try:
            return decode(self.encoded(t), self._colour)
        except ValueError as error:
            raise EpisodeError(
                f"{self._dataset.file.filename}: {self._dataset.name}: row {t} {error}"
            ) from None
