"""Whether a recording is fit to learn from: what it is measured by, and the verdict. No ROS here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from vla_recorder.episode.layout import EpisodeHeader
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tally import RATIO_EDGES, Tally
from vla_rig.rig import Limit, Recording
from vla_rig.rig_file import RigError, rig_from_yaml

VERDICTS = ("good", "check", "bad")
COMMAND = "command"


@dataclass(frozen=True)
class Quality:
    """The summary of an episode: stored in its file as JSON, shown at its end and by `episode inspect`."""

    verdict: str  # one of VERDICTS
    reasons: list[str]  # why it is not "good"
    rows: int
    late_rows: int | None  # None: a file that was never closed does not know
    intervened_rows: int
    interventions: dict[str, int]  # kind -> times
    interval_ratios: list[float]  # where the bins of `intervals` meet, in expected intervals
    streams: dict[str, dict]  # see Tally.streams; None for a number that does not exist

    def as_dict(self) -> dict:
        """Plain values, the same after a way through JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Standards:
    """What the streams of an episode should be, by its rig file, and the limits of the verdict."""

    stream_names: list[str]  # (N)
    row_period_s: float
    rates_hz: dict[str, float]  # of the streams that the rig file knows
    needed: list[str]  # streams that count for the verdict
    limits: Recording

    @classmethod
    def of_header(cls, header: EpisodeHeader) -> Standards:
        return cls._of(header.stream_names, header.control_rate_hz, header.rig, header.action_from)

    @classmethod
    def of_episode(cls, episode: EpisodeReader) -> Standards:
        """Of a file that knows its streams; a plain ACT file does not."""
        source = episode.attributes.get("action_from", "command")
        return cls._of(episode.stream_names, episode.control_rate_hz, episode.rig_text or "", source)

    @classmethod
    def _of(cls, names: Sequence[str], rate_hz: float, rig_text: str, action_from: str) -> Standards:
        nominal_hz, leaders, limits = _of_rig(rig_text)
        rates_hz = {name: nominal_hz[name] for name in names if name in nominal_hz}
        # the action comes from the commands, one for each row, or from the leaders: the others are only recorded
        beside = {COMMAND} if action_from == "leader" else leaders
        needed = [name for name in names if name not in beside]
        return cls(list(names), 1.0 / rate_hz, rates_hz | {COMMAND: rate_hz}, needed, limits)

    def tally(self) -> Tally:
        """An empty one, for the rows."""
        return Tally(self.stream_names, self.row_period_s, self.rates_hz)

    def judge(self, tally: Tally) -> Quality:
        """The quality of the rows in `tally`."""
        found = [*self._of_streams(tally), *self._of_rows(tally)] if tally.rows else [(2, "no rows")]
        return Quality(
            verdict=VERDICTS[max((rank for rank, _ in found), default=0)],
            reasons=[text for _, text in sorted(found, key=lambda item: -item[0])],
            rows=tally.rows,
            late_rows=tally.late_rows,
            intervened_rows=tally.intervened_rows,
            interventions=dict(tally.interventions),
            interval_ratios=list(RATIO_EDGES),
            streams={name: _without_nan(stream) for name, stream in tally.streams().items()},
        )

    def _of_streams(self, tally: Tally) -> Iterator[tuple[int, str]]:
        limits = self.limits
        for name, stream in tally.streams().items():
            if name not in self.needed:
                continue
            yield from _over(f"{name}: stale rows", stream["stale"] / tally.rows, limits.stale)
            intervals = max(1, sum(stream["intervals"]))
            yield from _over(f"{name}: gaps among its intervals", stream["gaps"] / intervals, limits.gaps)
            if name in self.rates_hz:
                explained = max(0.0, 1.0 - self.rates_hz[name] * self.row_period_s)
                share = stream["repeated"] / tally.rows - explained
                yield from _over(f"{name}: more repeated rows than its rate explains", share, limits.repeats)

    def _of_rows(self, tally: Tally) -> Iterator[tuple[int, str]]:
        yield from _over("rows taken late", tally.late_rows / tally.rows, self.limits.late)
        share = tally.intervened_rows / tally.rows
        yield from _over("rows whose command the gate changed", share, self.limits.interventions)


def quality_of(episode: EpisodeReader) -> Quality | None:
    """Counted and judged anew from an episode file; None for a file that has no rows, or knows of no messages.

    Equal to what the recorder said of the same rows: only how many were late is not in the rows, and is taken
    from what the file says of itself.
    """
    if not len(episode) or episode.fresh is None or not any(episode.stream_topics):
        return None  # a plain ACT file; one made of a LeRobot data set of others
    standards = Standards.of_episode(episode)
    tally = standards.tally()
    entries = [text.split("; ") if text else [] for text in episode.interventions]
    tally.add(episode.stream_stamps_ns, episode.fresh, episode.repeated, episode.ages_s, entries)
    if episode.quality is None:
        return replace(standards.judge(tally), late_rows=None)
    tally.late_rows = episode.quality["late_rows"]
    return standards.judge(tally)


@lru_cache(maxsize=4)  # checking a rig file takes 30 ms, at the start of each episode
def _of_rig(rig_text: str) -> tuple[dict[str, float], set[str], Recording]:
    """Nominal rates by stream, streams of leaders only, the limits. Nothing, and the usual limits, without our rig."""
    try:
        rig = rig_from_yaml(rig_text)
    except RigError:
        return {}, set(), Recording()
    rates_hz = {name: stream.rate_hz for name, stream in (rig.cameras | rig.joint_sources).items()}
    return rates_hz, set(rig.leader_sources) - set(rig.follower_sources), rig.recording


def _over(what: str, share: float, limit: Limit) -> Iterator[tuple[int, str]]:
    """(rank in VERDICTS, reason) when the share is over the limit."""
    rank = (share > limit.check) + (share > limit.bad)
    if rank:
        bound = (limit.check, limit.bad)[rank - 1]
        yield rank, f"{what}: {100 * share:.1f} % ({VERDICTS[rank]} above {100 * bound:g} %)"


def _without_nan(stream: dict) -> dict:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in stream.items()
    }
