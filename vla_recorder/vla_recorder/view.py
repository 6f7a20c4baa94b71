"""The picture of a recorder's state for a terminal, out of its status message. No threads, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vla_msgs.msg import EpisodeStatus, StreamStatus
from vla_recorder.episode.layout import TRASHED_SUFFIX

SLOW = 0.8
"""Share of the nominal rate below which a rate is shown as too low."""
_STATES = {
    EpisodeStatus.STATE_IDLE: (" READY ", "black on green"),
    EpisodeStatus.STATE_COUNTDOWN: (" GET READY ", "black on yellow"),
    EpisodeStatus.STATE_RECORDING: (" RECORDING ", "bold white on red"),
    EpisodeStatus.STATE_SAVING: (" SAVING ", "white on blue"),
    EpisodeStatus.STATE_FAULT: (" FAULT ", "bold white on red"),
}
_VERDICTS = {"good": "green", "check": "yellow", "bad": "bold red"}
_DIGITS = {
    "0": ("███", "█ █", "█ █", "█ █", "███"),
    "1": (" █ ", "██ ", " █ ", " █ ", "███"),
    "2": ("███", "  █", "███", "█  ", "███"),
    "3": ("███", "  █", "███", "  █", "███"),
    "4": ("█ █", "█ █", "███", "  █", "  █"),
    "5": ("███", "█  ", "███", "  █", "███"),
    "6": ("███", "█  ", "███", "█ █", "███"),
    "7": ("███", "  █", "  █", "  █", "  █"),
    "8": ("███", "█ █", "███", "█ █", "███"),
    "9": ("███", "█ █", "███", "  █", "███"),
}
_LONG_S = 3600.0  # older than any stream that this view is for: another clock
_WIDE, _MIDDLE = 76, 56  # columns from which the table shows all of a stream, or half of it


@dataclass(frozen=True)
class Setting:
    """What stays the same while the recorder runs."""

    rates_hz: Mapping[str, float]
    """Stream -> nominal rate."""
    substeps: Sequence[str]
    keys: Sequence[tuple[str, str]]
    """(key, what it does)."""
    hint: str = ""
    """What else starts an episode."""


def picture(
    status: EpisodeStatus, setting: Setting, width: int, height: int, typed: str | None = None
) -> RenderableType:
    """At most height - 1 lines: what matters less is left out of a small terminal.

    `typed` is what has been typed of a new instruction.
    """
    head = [_head(status), *_texts(status, setting)]
    if typed is not None:
        shown = typed[-max(1, width - 45) :]  # its end, where the cursor is
        head[1] = _line(" instruction  ", (shown, "bold"), "█", ("  Enter: take it   Esc: do not", "yellow"))
    foot = [*_foot(status), *_keys(setting.keys, width)[: max(1, height // 6)]]
    left = height - 1 - len(head) - len(foot)
    count = _countdown(status) if left >= 7 else []
    table = _streams(status.streams, setting.rates_hz, width, left - len(count))
    parts = [*head, *count, *table, *foot]
    return Group(*parts[: max(1, height - 1)])


def _line(*parts: str | tuple[str, str]) -> Text:
    """One line, whatever texts say that came from elsewhere."""
    clean = [
        (_printable(part), "") if isinstance(part, str) else (_printable(part[0]), part[1]) for part in parts
    ]
    return Text.assemble(*clean, no_wrap=True, overflow="ellipsis")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _head(status: EpisodeStatus) -> Text:
    name, style = _STATES[status.state]
    parts: list[str | tuple[str, str]] = [(name, style), " "]
    if status.state == EpisodeStatus.STATE_COUNTDOWN:
        parts.append((f"{status.countdown_s:.1f} s", "bold yellow"))
    elif status.state in (EpisodeStatus.STATE_RECORDING, EpisodeStatus.STATE_SAVING):
        minutes, seconds = divmod(status.elapsed_s, 60)
        parts += [
            (f"{int(minutes):02d}:{seconds:04.1f}", "bold"),
            f"  episode {status.episode_index}  {status.rows} rows  ",
            (status.path, "dim"),
        ]
    elif status.state == EpisodeStatus.STATE_FAULT:
        parts.append((status.reason, "bold red"))
    else:
        parts.append("for the next episode")
        if status.reason and not status.reason.startswith("operator"):
            parts.append((f"   the last one ended: {status.reason}", "yellow"))
    return _line(*parts)


def _texts(status: EpisodeStatus, setting: Setting) -> list[Text]:
    missing = "(none yet: press i to give one)"
    lines = [_line(" instruction  ", (status.instruction or missing, "bold"))]
    if status.substep:
        place = ""
        if status.substep in setting.substeps:
            place = f"  ({setting.substeps.index(status.substep) + 1} of {len(setting.substeps)})"
        lines.append(_line(" sub-step     ", (status.substep, "bold"), place))
    waiting = status.state == EpisodeStatus.STATE_RECORDING and not status.rows
    if waiting and status.reason:
        lines.append(_line((f" {status.reason}", "yellow")))
    return lines


def _countdown(status: EpisodeStatus) -> list[Text]:
    if status.state != EpisodeStatus.STATE_COUNTDOWN:
        return []
    digits = [_DIGITS[digit] for digit in str(math.ceil(status.countdown_s))]
    rows = ["   ".join(digit[i].replace("█", "██").replace(" ", "  ") for digit in digits) for i in range(5)]
    return [_line(), *(_line((f"      {row}", "bold yellow")) for row in rows), _line()]


def _streams(
    streams: Sequence[StreamStatus], rates_hz: Mapping[str, float], width: int, lines: int
) -> list[RenderableType]:
    """The table in `lines` lines, its head included; streams that are well give way first."""
    if len(streams) < lines:
        return [_table(streams, rates_hz, width)]
    ill = [stream for stream in streams if stream.reason]
    shown, well = ill[: max(0, lines - 2)], len(streams) - len(ill)
    hidden = len(ill) - len(shown)
    summary = f" {well} of {len(streams)} streams are well" + (f"; {hidden} more are not" if hidden else "")
    table = [_table(shown, rates_hz, width)] if shown else []
    return [*table, _line((summary, "red" if ill else "green"))] if lines >= 1 else []


def _table(streams: Sequence[StreamStatus], rates_hz: Mapping[str, float], width: int) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(" stream", no_wrap=True, overflow="ellipsis", min_width=10)
    heads = ["rate Hz", "age ms"]
    heads += ["stale"] * (width >= _MIDDLE) + ["repeated", "late", "lost"] * (width >= _WIDE)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for stream in streams:
        cells = _cells(stream, rates_hz.get(stream.name))
        table.add_row(
            *cells[: 1 + len(heads)],
            Text(_printable(stream.reason.removeprefix(f"{stream.topic}: ")) or "ok"),
            style="red" if stream.reason else "",
        )
    return table


def _cells(stream: StreamStatus, nominal_hz: float | None) -> list[Text]:
    rate = Text(f"{stream.rate_hz:.0f}" + (f" / {nominal_hz:g}" if nominal_hz else ""))
    if nominal_hz and stream.rate_hz < SLOW * nominal_hz:
        rate.stylize("yellow")
    age = Text("-" if math.isnan(stream.age_s) else f"{1000 * stream.age_s:.0f}")
    if abs(stream.age_s) > _LONG_S:
        age = Text("> 1 h" if stream.age_s > 0 else "< -1 h")
    counts = [stream.stale, stream.repeated, stream.late, stream.lost]
    return [Text(f" {stream.name}"), rate, age, *(Text(str(count) if count else ".") for count in counts)]


def _foot(status: EpisodeStatus) -> list[Text]:
    left = "?" if math.isnan(status.disk_left_min) else f"{status.disk_left_min:.0f} min"
    queue = (f"{100 * status.queue_fill:.0f} %", "bold red" if status.queue_fill > 0.5 else "")
    room = (left, "bold red" if status.disk_left_min < 5 else "")
    late = f"   late rows {status.late_rows}" if status.late_rows else ""
    counts = f"   saved {status.saved}, discarded {status.discarded}"
    lines = [_line(" queue ", queue, "   disk left ", room, late, counts)]
    if status.last_path:
        name = Path(status.last_path).name
        what = f"{name}, label {status.last_label}"
        if name.endswith(TRASHED_SUFFIX):
            what = f"{'_'.join(name.split('_')[:2])} discarded"  # without what keeps names in the trash apart
        lines.append(
            _line(
                f" last: {what}, ",
                (status.last_verdict.upper(), _VERDICTS.get(status.last_verdict, "")),
                (f"  {'; '.join(status.last_reasons)}", "dim"),
            )
        )
    return lines


def _keys(keys: Sequence[tuple[str, str]], width: int) -> list[Text]:
    lines, line = [], Text(no_wrap=True, overflow="ellipsis")
    for key, what in keys:
        entry = Text.assemble(" ", (f" {key} ", "reverse"), f" {what} ")
        if line.cell_len + entry.cell_len > width and line.cell_len:
            lines.append(line)
            line = Text(no_wrap=True, overflow="ellipsis")
        line.append_text(entry)
    return [*lines, line] if line.cell_len else lines
