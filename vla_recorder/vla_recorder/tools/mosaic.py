"""All cameras of a row as one picture, with the row, its time and what is being done written on it."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.drawing import fresh, times_s
from vla_recorder.tools.fonts import font_of, warn_of_missing

_STALE_RGB = (214, 39, 40)
_TEXT_SHARE = 0.04  # of a camera's height
_LINE = 1.3  # from one line to the next, in text heights
_CAPTION_LINES = 4  # at most: what is longer is cut


class Mosaic:
    """The cameras of an episode in a grid, all in cells of the largest camera's size; black where there is none.

    A frame that was stale at its row has a red border. `size` is (height, width), both even, as video encoders want.
    """

    def __init__(self, episode: EpisodeReader, scale: float = 1.0, overlay: bool = True) -> None:
        self._episode, self._cameras = episode, {n: episode.images(n) for n in episode.camera_names}
        self._fresh = {name: fresh(episode, name) for name in self._cameras}
        self._times_s, self._overlay = times_s(episode), overlay
        shapes = [images.shape[1:3] for images in self._cameras.values()]
        self._cell = tuple(max(1, round(scale * max(side))) for side in zip(*shapes, strict=True))
        self._columns = math.ceil(math.sqrt(len(shapes)))
        lines = math.ceil(len(shapes) / self._columns)
        self._text_px = max(10, round(_TEXT_SHARE * self._cell[0]))
        self._width = self._columns * self._cell[1]
        self._bar_px = round((0.3 + _LINE * self._longest_caption()) * self._text_px) if overlay else 0
        height, width = lines * self._cell[0] + self._bar_px, self._width
        self.size = (height + height % 2, width + width % 2)

    def picture(self, t: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB of row t."""
        canvas = np.zeros((*self.size, 3), np.uint8)
        for i, (name, images) in enumerate(self._cameras.items()):
            line, column = divmod(i, self._columns)
            y, x = line * self._cell[0], column * self._cell[1]
            self._place(canvas[y : y + self._cell[0], x : x + self._cell[1]], images[t], self._fresh[name][t])
            if self._overlay:
                _blend(canvas, _text(name, self._text_px), y + 4, x + 6)
        if self._overlay:
            for i, line in enumerate(self._caption(t, self._episode.substeps[t])):
                y = self.size[0] - self._bar_px + 2 + round(i * _LINE * self._text_px)
                _blend(canvas, _text(line, self._text_px), y, 6)
        return canvas

    def _longest_caption(self) -> int:
        """In lines; the last row's number is the longest one."""
        last = len(self._episode) - 1
        texts = dict.fromkeys(self._episode.substeps)
        for text in (self._episode.instruction, *texts):
            warn_of_missing(text)
        return max(len(self._caption(last, text)) for text in texts)

    def _place(self, cell: np.ndarray, image: np.ndarray, is_fresh: bool) -> None:
        scale = min(cell.shape[0] / image.shape[0], cell.shape[1] / image.shape[1])
        if scale != 1.0:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        height, width = image.shape[:2]
        y, x = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
        cell[y : y + height, x : x + width] = image
        if not is_fresh:
            border = max(2, cell.shape[0] // 60)
            for edge in (cell[:border], cell[-border:], cell[:, :border], cell[:, -border:]):
                edge[:] = _STALE_RGB

    def _caption(self, t: int, doing: str) -> list[str]:
        task = self._episode.instruction
        text = f"{doing}   [{task}]" if task not in ("", doing) else doing
        caption = f"row {t}   {self._times_s[t]:.2f} s   {text}"
        return _wrapped(caption, self._text_px, self._width - 12)[:_CAPTION_LINES]


def _wrapped(text: str, pixels: int, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces where there are some: not every script has them."""
    font, lines = _font(font_of(text), pixels), []
    while len(text) > 1 and font.getlength(text) > width:
        end = bisect_right(range(1, len(text)), width, key=lambda n: font.getlength(text[:n]))
        space = text.rfind(" ", 0, max(1, end) + 1)
        cut = space if space > 0 else max(1, end)
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]


@lru_cache(maxsize=8)
def _font(file: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, pixels)


@lru_cache(maxsize=64)
def _text(text: str, pixels: int) -> np.ndarray:
    """(height, width) uint8 coverage of a line of text. Not OpenCV's fonts: they know ASCII only."""
    font = _font(font_of(text), pixels)
    _left, _top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (max(1, right), max(1, bottom)))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    return np.asarray(mask)


def _blend(canvas: np.ndarray, mask: np.ndarray, y: int, x: int) -> None:
    """White text with a dark edge, so that it can be read on anything; what does not fit is cut."""
    padded = np.pad(mask, 2)
    edge = cv2.dilate(padded, np.ones((3, 3), np.uint8))
    region = canvas[y : y + padded.shape[0], x : x + padded.shape[1]]
    padded, edge = (part[: region.shape[0], : region.shape[1], None] / 255.0 for part in (padded, edge))
    region[:] = (region * (1 - edge) + 255 * np.minimum(padded, edge)).astype(np.uint8)
