"""The summary of an episode as text: at the end of a recording and for `episode inspect`."""

from __future__ import annotations

import math
from itertools import groupby

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.quality import quality_of


def of_episode(episode: EpisodeReader) -> dict:
    """The report of a file, with the keys of a take's report as far as the file knows them."""
    T, rate_hz = len(episode), episode.control_rate_hz
    quality = quality_of(episode)
    return {
        "path": str(episode.path),
        "end_reason": episode.end_reason or ("never closed" if episode.attributes else "not recorded"),
        "label": episode.label,
        "instruction": episode.instruction,
        "substeps": substeps(episode),
        "rows": T,
        "seconds": T / rate_hz if rate_hz else None,
        "rate_hz": rate_hz,
        "rig": episode.rig_name,
        "sim": episode.sim,
        "checkpoint": episode.attributes.get("checkpoint", ""),
        "software": episode.attributes.get("software", ""),
        "started": episode.attributes.get("started", ""),
        "image_form": episode.image_form,
        "cameras": {name: episode.images(name).shape[1:] for name in episode.camera_names},
        "quality": quality.as_dict() if quality else None,
    }


def substeps(episode: EpisodeReader) -> list[tuple[int, int, str]]:
    """(first row, last row, text) of each stretch with one text; empty when it is the instruction throughout."""
    found, begin = [], 0
    for text, rows in groupby(episode.substeps):
        end = begin + len(list(rows))
        found.append((begin, end - 1, text))
        begin = end
    return [] if [text for *_, text in found] in ([], [episode.instruction]) else found


def text(report: dict) -> str:
    """Several lines for a terminal."""
    head = f"{report['path']}\n  {report['rows']} rows, {_seconds(report)}; ended: {report['end_reason']}"
    lines = [head + (f"; label: {report['label']}" if report["label"] != "none" else "")]
    lines.append(f"  instruction: {report['instruction'] or '(none)'}")
    lines += [f"    rows {first} to {last}: {what}" for first, last, what in report.get("substeps", [])]
    if "rig" in report:
        lines += _origin(report)
    if report["quality"]:
        lines += _quality(report["quality"], report)
    return "\n".join(lines)


def overview(reports: list[dict]) -> str:
    """Two or three lines on many episodes: how much there is, which of it is not good, what people said of it."""
    rows, seconds = (sum(report[key] or 0 for report in reports) for key in ("rows", "seconds"))
    lines = [f"together: {len(reports)} episodes, {rows} rows, {seconds / 60:.1f} min"]
    for head, value in (
        ("quality", lambda report: report["quality"]["verdict"] if report["quality"] else "not known"),
        ("label", lambda report: report["label"]),
    ):
        by_value: dict[str, list[str]] = {}
        for report in reports:
            by_value.setdefault(value(report), []).append(report["path"])
        lines.append(f"  {head}: " + ", ".join(f"{len(paths)} {what}" for what, paths in by_value.items()))
        lines += [f"    {what}: {path}" for what in ("check", "bad") for path in by_value.get(what, [])]
    return "\n".join(lines)


def intervals(quality: dict) -> str:
    """A table: how many intervals between messages fell into which bin, as multiples of the expected interval."""
    edges = quality["interval_ratios"]
    heads = [f"<{edge:g}" for edge in edges] + [f">{edges[-1]:g}"]
    lines = [f"  {'times as expected':<26}" + "".join(f"{head:>7}" for head in heads)]
    for name, stream in quality["streams"].items():
        counts = "".join(f"{count or '.':>7}" for count in stream["intervals"])
        lines.append(f"  {name:<18}{1000 * stream['expected_interval_s']:>5.1f} ms{counts}")
    return "\n".join(lines)


def _seconds(report: dict) -> str:
    if report["seconds"] is None:
        return "rate not recorded"
    return f"{report['seconds']:.2f} s at {report['rate_hz']:g} Hz"


def _origin(report: dict) -> list[str]:
    cameras = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in report["cameras"].items())
    simulated, form = (
        " (simulated)" if report["sim"] else "",
        "JPEG" if report["image_form"] == "jpeg" else "raw",
    )
    lines = [f"  rig: {report['rig']}{simulated}; cameras ({form}): {cameras}"]
    return lines + [f"  {key}: {report[key]}" for key in ("checkpoint", "software", "started") if report[key]]


def _quality(quality: dict, report: dict) -> list[str]:
    lines = [f"  quality: {quality['verdict'].upper()}"]
    lines += [f"    {reason}" for reason in quality["reasons"]]
    if quality["late_rows"]:
        lines.append(f"  {quality['late_rows']} rows were taken though a stream had not answered in time")
    lines += _streams(quality, report)
    if quality["interventions"]:
        counted = ", ".join(f"{kind} {n}" for kind, n in sorted(quality["interventions"].items()))
        lines.append(f"  gate interventions: {counted} (in {quality['intervened_rows']} rows)")
    return lines


def _streams(quality: dict, report: dict) -> list[str]:
    # how often messages came where that is known (at the end of a take), else how often rows saw a new one
    received = {name: stream.get("rate_hz") for name, stream in report.get("streams", {}).items()}
    rate_head = "rate Hz" if any(received.values()) else "used Hz"
    lines = [
        f"  {'stream':<18}{rate_head:>9}{'repeated':>10}{'stale':>9}{'gaps':>6}{'longest':>11}{'max age':>11}"
    ]
    rows = max(1, quality["rows"])
    for name, stream in quality["streams"].items():
        rate_hz = received.get(name) or (rows - stream["repeated"]) / (rows / report["rate_hz"])
        repeated, stale = (f"{100 * stream[key] / rows:.1f} %" for key in ("repeated", "stale"))
        age_s = math.nan if stream["max_age_s"] is None else stream["max_age_s"]
        lines.append(
            f"  {name:<18}{rate_hz:>9.1f}{repeated:>10}{stale:>9}{stream['gaps']:>6}"
            f"{1000 * stream['max_interval_s']:>8.1f} ms{1000 * age_s:>8.1f} ms"
        )
    return lines
