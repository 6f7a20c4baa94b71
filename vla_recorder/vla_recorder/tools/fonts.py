"""Fonts for what people write: matplotlib's own knows Latin, Greek and Cyrillic, the others have to be installed."""

from __future__ import annotations

import sys
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import get_font

_FONT = "DejaVu Sans"  # comes with matplotlib
_FURTHER_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei")


@lru_cache(maxsize=1)
def fonts() -> dict[str, str]:
    """Family -> file of the fonts that are there; each has what those before it lack."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [_FONT, *(name for name in _FURTHER_FONTS if name in installed)]
    return {name: font_manager.findfont(name) for name in families}


@lru_cache(maxsize=256)
def font_of(text: str) -> str:
    """The file of the first font that has every character; of the first one when none has."""
    return next((file for file in fonts().values() if not _missing(text, file)), fonts()[_FONT])


def _missing(text: str, file: str) -> set[str]:
    return {c for c in text if not c.isspace() and ord(c) not in _characters(file)}


@lru_cache(maxsize=8)
def _characters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())


def warn_of_missing(text: str) -> None:
    """Say once which characters will be boxes: matplotlib would say it for each, again and again."""
    missing = set.intersection(*(_missing(text, file) for file in fonts().values()))
    if missing:
        _warn("".join(sorted(missing)))


@lru_cache(maxsize=256)
def _warn(characters: str) -> None:
    hint = "on Debian and Ubuntu: apt install fonts-noto-cjk"
    print(f"episode: no font here has {characters}: boxes stand for it ({hint})", file=sys.stderr)
