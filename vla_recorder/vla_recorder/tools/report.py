"""The summary of an episode as text: at the end of a recording and for `episode inspect`."""

from __future__ import annotations

import math

from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tally import Tally


def of_episode(episode: EpisodeReader) -> dict:
    """The report of a file, with the keys of a take's report as far as the file knows them."""
    T, rate_hz = len(episode), episode.control_rate_hz
    report = {
        "path": str(episode.path),
        "end_reason": episode.end_reason or ("never closed" if episode.attributes else "not recorded"),
        "label": episode.label,
        "instruction": episode.instruction,
        "rows": T,
        "seconds": T / rate_hz if rate_hz else math.nan,
        "rate_hz": rate_hz or math.nan,
        "rig": episode.rig_name,
        "sim": episode.sim,
        "checkpoint": episode.attributes.get("checkpoint", ""),
        "software": episode.attributes.get("software", ""),
        "started": episode.attributes.get("started", ""),
        "cameras": {
            name: episode.file[f"observations/images/{name}"].shape[1:] for name in episode.camera_names
        },
        "streams": {},
        "interventions": {},
    }
    if T and episode.fresh is not None:
        tally = Tally(episode.stream_names)
        texts = [entry for text in episode.interventions if text for entry in text.split("; ")]
        tally.add(episode.fresh, episode.repeated, episode.ages_s, texts)
        report |= {"streams": tally.streams(), "interventions": dict(tally.interventions)}
    return report


def text(report: dict) -> str:
    """Several lines for a terminal."""
    head = f"{report['path']}\n  {report['rows']} rows, {_seconds(report)}; ended: {report['end_reason']}"
    lines = [head + (f"; label: {report['label']}" if report["label"] != "none" else "")]
    lines.append(f"  instruction: {report['instruction'] or '(none)'}")
    if "rig" in report:
        cameras = ", ".join(
            f"{name} {'x'.join(map(str, shape))}" for name, shape in report["cameras"].items()
        )
        lines.append(f"  rig: {report['rig']}{' (simulated)' if report['sim'] else ''}; cameras: {cameras}")
        for key in ("checkpoint", "software", "started"):
            if report[key]:
                lines.append(f"  {key}: {report[key]}")
    if report.get("late_rows"):
        lines.append(f"  {report['late_rows']} rows were taken though a stream had not answered in time")
    lines += _streams(report)
    if report["interventions"]:
        counted = ", ".join(f"{kind} {n}" for kind, n in sorted(report["interventions"].items()))
        lines.append(f"  gate interventions: {counted}")
    return "\n".join(lines)


def _seconds(report: dict) -> str:
    if math.isnan(report["seconds"]):
        return "rate not recorded"
    return f"{report['seconds']:.2f} s at {report['rate_hz']:g} Hz"


def _streams(report: dict) -> list[str]:
    if not report["streams"] or not report["rows"]:
        return []
    rows = report["rows"]
    with_rate = any("rate_hz" in stream for stream in report["streams"].values())
    lines = [f"  {'stream':<18}{'rate Hz':>9}{'repeated':>11}{'stale':>9}{'max age ms':>12}"]
    if not with_rate:
        lines[0] = lines[0].replace("  rate Hz", "  used Hz")
    for name, stream in report["streams"].items():
        # how often the rows saw something new, where the rate of messages itself is not known
        rate_hz = stream.get("rate_hz", (rows - stream["repeated"]) / report["seconds"])
        percent = [f"{100 * stream[key] / rows:.1f} %" for key in ("repeated", "stale")]
        lines.append(
            f"  {name:<18}{rate_hz:>9.1f}{percent[0]:>11}{percent[1]:>9}{1000 * stream['max_age_s']:>12.1f}"
        )
    return lines
