"""A bag -> one episode.

Rows come from the recorder's `RigRows` over the same rings as live, so a bag gives the rows that a recorder would have
written: the newest message of every stream at each grid time, its age, and what was missing. A row is taken once every
stream has moved past its time or, when one has fallen silent, once the bag is PATIENCE_S further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_recorder.bags.inputs import Report
from vla_recorder.bags.source import BagError, BagSource
from vla_recorder.episode.layout import Row
from vla_recorder.header import episode_header
from vla_recorder.provenance import software
from vla_recorder.rows import RigRows
from vla_recorder.take import grid_at_or_after
from vla_recorder.tools.whole import new_episode
from vla_rig.joints import JointError
from vla_rig.rig import Rig

PATIENCE_S = 1.0
LONGEST_SILENCE_S = 60.0


@dataclass(frozen=True)
class Options:
    """How a bag becomes an episode."""

    instruction: str
    action_from: str = "command"  # or "leader"
    namespace: str = ""  # put before the rig file's relative topics
    sim: bool = False
    image_form: str = "raw"
    label: str = "none"


def load(
    bag: Path,
    folder: Path,
    rig: Rig,
    options: Options,
    report: Report = print,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Write the episode under the first free number of `folder`; returns its path.

    `report` is told what cannot be used; `progress` the share of the bag that is read. BagError or EpisodeError.
    """
    if not options.instruction.strip():
        raise BagError(f"{bag}: no instruction: say what is done in it")
    source = BagSource(bag, rig, options.action_from, options.namespace, report)
    try:
        rows = RigRows(rig, source.inputs, source.commands, options.action_from, source.leaders)
    except JointError as error:
        raise BagError(f"actions from the leaders: {error}") from error
    header = episode_header(
        rig,
        rows,
        instruction=options.instruction,
        sim=options.sim,
        action_from=options.action_from,
        software=software(),
        image_form=options.image_form,
    )
    found = _rows(source, rig, rows, progress)
    return new_episode(folder, header, found, f"imported from {bag.name}", label=options.label)


def _rows(source: BagSource, rig: Rig, rows: RigRows, progress: Callable[[float], None]) -> Iterator[Row]:
    """From the first row that is whole, as live, to the last that every stream reaches. BagError when there is none."""
    period_ns, patience_ns = round(1e9 / rig.control_rate_hz), round(PATIENCE_S * 1e9)
    next_ns, begun, before_ns = None, False, None
    for log_ns, share in source.feed():
        progress(share)
        silence_s = 0.0 if before_ns is None else (log_ns - before_ns) * 1e-9
        before_ns = log_ns
        if silence_s > LONGEST_SILENCE_S:
            raise BagError(
                f"{source.bag}: says nothing for {silence_s:.0f} s in its middle: split it into its recordings"
            )
        if next_ns is None:
            next_ns = grid_at_or_after(log_ns - patience_ns, period_ns)
        while rows.settled(next_ns) or log_ns > next_ns + patience_ns:
            row, problems = rows.row(next_ns)
            next_ns += period_ns
            begun = begun or not problems
            if begun:
                yield row
    while begun and next_ns <= (source.inputs.aligner.complete_ns() or 0) and rows.has_action(next_ns):
        yield rows.row(next_ns)[0]
        next_ns += period_ns
    if not begun:
        raise BagError(f"{source.bag}: no complete row; messages found: {source.received()}")
