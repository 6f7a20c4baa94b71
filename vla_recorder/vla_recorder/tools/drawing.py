"""What the pictures of an episode have in common."""

from __future__ import annotations

import textwrap
import warnings

import numpy as np
from matplotlib.figure import Figure

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.fonts import fonts, warn_of_missing

STATE_COLOUR, ACTION_COLOUR, BAD_COLOUR = "#1f77b4", "#ff7f0e", "#d62728"
warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # `warn_of_missing` says it once
_CHARACTERS_PER_INCH = 10.0  # of a title


def head(figure: Figure, text: str, **style) -> None:
    """The title of a page, in as many lines as it needs."""
    warn_of_missing(text)
    width = round(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]]
    figure.suptitle("\n".join(lines), fontfamily=list(fonts()), **style)


def fresh(episode: EpisodeReader, stream: str) -> np.ndarray:
    """(T,) bool; true throughout where the file does not know."""
    if episode.fresh is None or stream not in episode.stream_names:
        return np.ones(len(episode), bool)
    return episode.fresh[:, episode.stream_names.index(stream)]


def times_s(episode: EpisodeReader) -> np.ndarray:
    """(T,) seconds since the first row; row numbers where the file knows neither stamps nor rate."""
    if episode.stamps_ns is not None:
        return (episode.stamps_ns - episode.stamps_ns[0]) * 1e-9
    return np.arange(len(episode)) / (episode.control_rate_hz or 1.0)


def time_label(episode: EpisodeReader) -> str:
    return "time (s)" if episode.stamps_ns is not None else "row"


def title(episode: EpisodeReader) -> str:
    label = f" [{episode.label}]" if episode.label != "none" else ""
    return f"{episode.path.name}: {episode.instruction or '(no instruction)'}{label}"
