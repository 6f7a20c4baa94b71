"""The quality of an episode as a picture: intervals and ages of each stream, what the gate did, and the verdict."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.quality import Quality
from vla_recorder.tools.drawing import BAD_COLOUR, STATE_COLOUR, fresh, head, time_label, times_s, title

_LEAST_AGE_MS = 5.0  # of the axis: microseconds must not look like trouble
_VERDICT_COLOUR = {"good": "#2ca02c", "check": "#b58900", "bad": BAD_COLOUR}


def quality_page(episode: EpisodeReader, quality: Quality) -> Figure:
    """A line for each stream: its interval histogram, its age over time; below, when the gate changed a command."""
    names = list(quality.streams)
    reasons = quality.reasons or ["nothing out of the ordinary"]
    height = 1.1 * len(names) + 1.5 + 0.2 * len(reasons) + 0.9
    figure = Figure(figsize=(12.0, height), dpi=100, layout="constrained")
    head(
        figure,
        f"{title(episode)}\n{quality.verdict.upper()}: " + "\n".join(reasons),
        color=_VERDICT_COLOUR[quality.verdict],
        fontsize=11,
    )
    axes = figure.subplots(len(names) + 1, 2, squeeze=False, width_ratios=(2, 3), sharex="col")
    for line, name in zip(axes, names, strict=False):
        _histogram(line[0], name, quality)
        _ages(line[1], episode, name)
    _ratio_labels(axes[len(names) - 1, 0], quality)
    axes[len(names), 0].set_visible(False)
    _interventions(axes[len(names), 1], episode, quality)
    return figure


def _histogram(cell: Axes, name: str, quality: Quality) -> None:
    stream = quality.streams[name]
    counts = np.array(stream["intervals"])
    cell.bar(np.arange(len(counts)), counts, width=0.9, color=STATE_COLOUR)
    cell.set_yscale("symlog", linthresh=1)
    cell.set_ylim(0, max(10, 3 * counts.max()))
    for i in np.flatnonzero(counts):
        cell.annotate(str(counts[i]), (i, counts[i]), ha="center", va="bottom", fontsize=7)
    expected_ms, longest_ms = 1000 * stream["expected_interval_s"], 1000 * stream["max_interval_s"]
    cell.set_title(
        f"{name}: intervals, expected {expected_ms:.1f} ms, longest {longest_ms:.1f} ms, gaps: {stream['gaps']}",
        fontsize=8,
        loc="left",
        pad=2,
    )
    cell.tick_params(labelsize=7)


def _ratio_labels(cell: Axes, quality: Quality) -> None:
    edges = quality.interval_ratios
    cell.set_xticks(range(len(edges) + 1), [f"<{edge:g}" for edge in edges] + [f">{edges[-1]:g}"])
    cell.tick_params(labelsize=7, labelbottom=True)
    cell.set_xlabel("times the expected interval", fontsize=8)


def _ages(cell: Axes, episode: EpisodeReader, name: str) -> None:
    at_s, column = times_s(episode), episode.stream_names.index(name)
    age_ms = 1000.0 * episode.ages_s[:, column]
    cell.plot(at_s, age_ms, color=STATE_COLOUR, linewidth=0.8)
    low, high = cell.get_ylim()
    cell.set_ylim(min(1.3 * low, 0.0), max(high, _LEAST_AGE_MS))
    stale = ~fresh(episode, name)
    period_s = at_s[1] - at_s[0] if len(at_s) > 1 else 1.0
    for begin, end in _stretches(stale):
        cell.axvspan(at_s[begin], at_s[end - 1] + period_s, color=BAD_COLOUR, alpha=0.3, linewidth=0)
    repeated = 100 * episode.repeated[:, column].mean()
    cell.set_title(
        f"{name}: age (ms); stale in {stale.sum()} rows (red), {repeated:.0f} % repeated",
        fontsize=8,
        loc="left",
        pad=2,
    )
    cell.tick_params(labelsize=7)
    cell.margins(x=0)
    cell.grid(alpha=0.3)


def _interventions(cell: Axes, episode: EpisodeReader, quality: Quality) -> None:
    at_s = times_s(episode)
    kinds = sorted(quality.interventions)
    for y, kind in enumerate(kinds):
        rows = [t for t, text in enumerate(episode.interventions) if f"; {text}".count(f"; {kind}")]
        cell.plot(at_s[rows], np.full(len(rows), y), "|", color=BAD_COLOUR, markersize=9)
    cell.set_yticks(range(len(kinds)), [f"{kind} {quality.interventions[kind]}" for kind in kinds])
    cell.set_ylim(-0.8, max(0.8, len(kinds) - 0.2))
    cell.set_title(
        f"rows whose command the gate changed: {quality.intervened_rows} of {quality.rows}",
        fontsize=8,
        loc="left",
        pad=2,
    )
    cell.tick_params(labelsize=7)
    cell.set_xlabel(time_label(episode), fontsize=8)


def _stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """[begin, end) of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
