"""Pictures of an episode: what the cameras saw, how the state followed the action, how the streams fared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.quality import quality_of
from vla_recorder.tools.drawing import (
    ACTION_COLOUR,
    BAD_COLOUR,
    STATE_COLOUR,
    fresh,
    head,
    time_label,
    times_s,
    title,
)
from vla_recorder.tools.interrupt import grant
from vla_recorder.tools.quality_page import quality_page
from vla_recorder.tools.whole import new_file


def save_pictures(episode: EpisodeReader, folder: str | Path) -> list[Path]:
    """Write NAME_cameras.png, NAME_joints.png and, where the file knows its streams, NAME_quality.png into folder.

    Raises EpisodeError when one is there already or cannot be written.
    """
    if len(episode) == 0:
        raise EpisodeError(f"{episode.path}: has no rows to draw")
    folder, name = Path(folder), episode.path.name.split(".")[0]
    pages = [("cameras", contact_sheet), ("joints", joint_plot)]
    if (quality := quality_of(episode)) is not None:
        pages.append(("quality", lambda episode: quality_page(episode, quality)))
    written = []
    for what, draw in pages:
        grant()
        path = folder / f"{name}_{what}.png"
        with new_file(path) as partial:
            FigureCanvasAgg(draw(episode)).print_png(partial)
        written.append(path)
    return written


def contact_sheet(episode: EpisodeReader, moments: int = 6) -> Figure:
    """Cameras x moments, evenly spaced from the first row to the last; stale frames have a red frame."""
    rows = np.unique(np.linspace(0, len(episode) - 1, moments).round().astype(int))
    cameras, at_s = episode.camera_names, times_s(episode)
    figure = Figure(figsize=(2.4 * len(rows) + 0.5, 1.9 * len(cameras) + 0.8), dpi=100, layout="constrained")
    head(figure, title(episode))
    axes = figure.subplots(len(cameras), len(rows), squeeze=False)
    for line, camera in zip(axes, cameras, strict=True):
        frames = episode.images(camera)
        line[0].set_ylabel(camera, fontsize=9)
        for cell, t in zip(line, rows, strict=True):
            cell.imshow(frames[int(t)])
            cell.set(xticks=[], yticks=[])
            if not fresh(episode, camera)[t]:
                for spine in cell.spines.values():
                    spine.set(edgecolor=BAD_COLOUR, linewidth=3)
    for cell, t in zip(axes[0], rows, strict=True):
        cell.set_title(f"{at_s[t]:.2f} s (row {t})", fontsize=9)
    return figure


def joint_plot(episode: EpisodeReader) -> Figure:
    """One small plot per joint, qpos against action; left arm in the left column, right arm in the right one."""
    columns = _columns(list(dict.fromkeys([*episode.state_names, *episode.action_names])))
    lines = max(map(len, columns))
    figure = Figure(figsize=(6.2 * len(columns), 1.25 * lines + 1.1), dpi=100, layout="constrained")
    head(figure, title(episode))
    axes = figure.subplots(lines, len(columns), sharex=True, squeeze=False)
    for column, names in enumerate(columns):
        for cell, name in zip(axes[:, column], names, strict=False):
            _plot_joint(cell, episode, name)
        for cell in axes[len(names) :, column]:
            cell.set_visible(False)
        axes[len(names) - 1, column].set_xlabel(time_label(episode))
        axes[len(names) - 1, column].tick_params(labelbottom=True)
    handles = {line.get_label(): line for cell in axes.flat for line in cell.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _plot_joint(cell: Axes, episode: EpisodeReader, name: str) -> None:
    at_s, unit = times_s(episode), ""
    for label, names, units, dataset, style in (
        (
            "action (requested)",
            episode.action_names,
            "action_units",
            episode.action,
            {"color": ACTION_COLOUR},
        ),
        ("qpos (measured)", episode.state_names, "state_units", episode.qpos, {"color": STATE_COLOUR}),
    ):
        if name not in names:
            continue
        i = names.index(name)
        unit = episode.attributes.get(units, [""] * len(names))[i]
        cell.plot(at_s, dataset[: len(episode), i], label=label, linewidth=1.2, **style)
    short = {"": "", "1": " (0-1)"}.get(unit, f" ({unit})")
    cell.set_title(f"{name}{short}", fontsize=8, loc="left", pad=2)
    cell.tick_params(labelsize=7)
    cell.margins(x=0)
    low, high = cell.get_ylim()
    if high - low < 0.05:  # noise of a joint at rest must not look like motion
        cell.set_ylim((low + high) / 2 - 0.025, (low + high) / 2 + 0.025)
    cell.grid(alpha=0.3)


def _columns(names: list[str]) -> list[list[str]]:
    """Joint names by arm; one column when the names do not tell."""
    arms = [[name for name in names if name.startswith(side)] for side in ("left", "right")]
    rest = [name for name in names if not name.startswith(("left", "right"))]
    return [column for column in (*arms, rest) if column]
