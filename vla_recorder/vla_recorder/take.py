"""One recording from start to saved or discarded. No ROS: rows come from a `RowSource`."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vla_recorder.backlog import Backlog
from vla_recorder.episode import images
from vla_recorder.episode.layout import EpisodeError, EpisodeHeader, Row
from vla_recorder.episode.writer import FLUSH_INTERVAL_S, EpisodeWriter
from vla_recorder.quality import Standards

DISK_RESERVE_BYTES = 256 << 20  # end while there is still room to finish the file
_CLOCK_BACK_NS = 1_000_000_000
_CLOCK_AHEAD_NS = 10_000_000_000  # a simulated clock that just began, a machine that slept
QUEUE_BYTES = 192 << 20  # a second of four raw cameras; queued rows share their frames with the messages


class RowSource(Protocol):
    """Where rows come from. All times are ns of one clock."""

    def settled(self, t_ns: int) -> bool:
        """True when row(t_ns) cannot change any more: every stream has moved on and the action is there."""

    def has_action(self, t_ns: int) -> bool:
        """True when the action of row(t_ns) is there."""

    def row(self, t_ns: int) -> tuple[Row, dict[str, str]]:
        """The row of grid time t_ns, and per stream what is wrong with it."""


@dataclass(frozen=True)
class Ending:
    """How a recording shall end."""

    reason: str
    save: bool = True
    label: str = "none"


def grid_at_or_after(t_ns: int, period_ns: int) -> int:
    """The first grid time k * period_ns that is not before t_ns."""
    return -(-t_ns // period_ns) * period_ns


class Take:
    """Rows at grid times -> bounded queue, JPEG encoders -> writer thread -> file.

    A row thread asks the source at every grid time, the writer thread owns the file. The row of time t is taken
    once the source has settled, or `settle_s` after the row's time is over, on the node's clock and on the
    wall's. No row is written before every stream is healthy once; afterwards every grid time gives a row. The
    take ends when asked (`stop`), when `max_rows` are there, when the disk or the encoders cannot keep up
    (`queue_fill` comes to 1), when the disk is nearly full or fails, or when the clock jumps; whatever the
    reason, what was recorded is saved and `on_done(report)` is called from the row thread. The file has its name
    then; `writer.wait_synced` waits until a power cut cannot take it any more.

    Raises EpisodeError when the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        header: EpisodeHeader,
        source: RowSource,
        now_ns: Callable[[], int],
        on_done: Callable[[dict], None] = lambda report: None,
        settle_s: float = 0.1,
        max_rows: int = 0,
        queue_rows: int = 100,
        queue_bytes: int = QUEUE_BYTES,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.header = header
        self._standards = Standards.of_header(header)
        self.writer = EpisodeWriter(folder, header)
        self.tally = self._standards.tally()
        self.problems: dict[str, str] = {}  # of the newest row, by stream
        self.instruction = header.instruction  # the newest; the file keeps it as its instruction
        self.checkpoint = header.checkpoint  # of the newest policy that commanded
        self.report: dict | None = None
        self._source, self._now_ns, self._on_done = source, now_ns, on_done
        self._steady_ns = steady_ns
        self._clock_seen: deque[tuple[int, int]] = (
            deque()
        )  # (node time, steady time) of changes since the next row
        self._max_rows = max_rows
        self._period_ns = round(1e9 / header.control_rate_hz)
        self._patience_ns = self._period_ns + round(settle_s * 1e9)
        self.start_ns = now_ns()
        self._next_ns = grid_at_or_after(self.start_ns, self._period_ns)
        self._backlog = Backlog(
            queue_rows, queue_bytes, self._encode if header.image_form == "jpeg" else None
        )
        self._ending: Ending | None = None
        self._trouble = ""  # why the take must end, though rows can be written
        self._write_problem = ""  # why no row can be written any more
        self._stop = threading.Event()
        self._finished = threading.Event()
        # not daemons: an interpreter that exits waits until the episode is saved
        self._row_thread = threading.Thread(target=self._run, name="rows")
        self._write_thread = threading.Thread(target=self._write, name="episode writer")

    def start(self) -> None:
        self._write_thread.start()
        self._row_thread.start()

    def stop(self, ending: Ending) -> dict:
        """End the take and wait until the file is saved or discarded; returns the report."""
        if self._ending is None:
            self._ending = ending
        self._stop.set()
        self._finished.wait()
        return self.report

    @property
    def rows(self) -> int:
        """Rows taken, also those still in the queue."""
        return self.tally.rows

    @property
    def late_rows(self) -> int:
        """Rows taken at the end of patience, though a stream had not moved on."""
        return self.tally.late_rows

    @property
    def taking(self) -> bool:
        """Whether rows may still be taken; afterwards they are only written."""
        return not self._backlog.ended

    @property
    def saving(self) -> bool:
        return self._stop.is_set() and not self.done

    @property
    def done(self) -> bool:
        return self.report is not None

    @property
    def queue_fill(self) -> float:
        """How full the queue of rows is, 0 to 1; at 1 the take ends."""
        return self._backlog.fill

    @property
    def waiting_for(self) -> str:
        """Why the first row is not written yet; empty once it is."""
        if self.rows:
            return ""
        if not self.problems and self._now_ns() == self.start_ns:
            return f"waiting for the clock: it stands at {self.start_ns * 1e-9:.3f} s (use_sim_time without /clock?)"
        reasons = [f"{stream}: {text}" for stream, text in self.problems.items()]
        return "waiting for " + "; ".join(reasons) if reasons else ""

    def elapsed_s(self) -> float:
        """Node time since start."""
        return (self._now_ns() - self.start_ns) * 1e-9

    def advance(self) -> Ending | None:
        """Take every row that is ready; returns how the take must end when it must."""
        now_ns = self._now_ns()
        if now_ns < self._next_ns - self._period_ns - _CLOCK_BACK_NS:
            return Ending("the clock was set back")
        behind_ns = now_ns - self._next_ns - self._patience_ns
        if behind_ns > _CLOCK_AHEAD_NS:
            if self.rows:
                return Ending(f"the clock leapt ahead by {behind_ns * 1e-9:.0f} s")
            self._next_ns = grid_at_or_after(now_ns - self._patience_ns, self._period_ns)
        while self._next_ns <= now_ns:  # stamps far ahead of our clock would settle rows for ever
            settled = self._source.settled(self._next_ns)
            if not settled and not self._waited_enough(now_ns):
                break
            ending = self._take_row(late=not settled)
            if ending is not None:
                return ending
        problem = self._write_problem or self._trouble
        return Ending(problem) if problem else None

    def _waited_enough(self, now_ns: int) -> bool:
        """Whether the next row's patience is over, by the node's clock and by the wall's.

        A simulated clock can run ahead while this process waits for its share of a busy machine; the frames
        are here by then, and only want to be taken in.
        """
        if not self._clock_seen or self._clock_seen[-1][0] != now_ns:
            self._clock_seen.append((now_ns, self._steady_ns()))
        while self._clock_seen and self._clock_seen[0][0] < self._next_ns:
            self._clock_seen.popleft()
        if not self._clock_seen or now_ns < self._next_ns + self._patience_ns:
            return False
        reached_ns = self._clock_seen[0][1]  # when the node's clock had come to the row's time
        return self._steady_ns() - reached_ns >= self._patience_ns

    def _take_row(self, late: bool = False) -> Ending | None:
        row, self.problems = self._source.row(self._next_ns)
        self._next_ns += self._period_ns
        if self.problems and not self.rows:
            return None
        if not self._backlog.put(row):
            return Ending(self._backlog.why_full())
        self.tally.add_row(row, late)
        if 0 < self._max_rows <= self.rows:
            return Ending(f"{self._max_rows} rows recorded (max_rows)")
        return None

    def _take_tail(self) -> None:
        """Rows of the last moments that are complete, though not every stream has moved on since."""
        while self._next_ns + self._period_ns <= self._now_ns() and self._source.has_action(self._next_ns):
            if self._take_row() is not None:
                return

    def _run(self) -> None:
        ending = None
        try:
            while ending is None and not self._stop.wait(self._period_ns * 0.25e-9):
                ending = self.advance()
            if ending is None:
                self._take_tail()
        except Exception as error:
            # a fault of ours must not cost the operator the episode: say it, save what is there
            traceback.print_exc()
            ending = Ending(f"internal error: {error!r}")
        self._ending = self._ending or ending
        self._stop.set()
        self._backlog.end()
        self._write_thread.join()
        try:
            self._on_done(self.report)
        finally:
            self._finished.set()

    def _write(self) -> None:
        while not self._backlog.drained:
            problem = self._write_next()
            self._write_problem = self._write_problem or problem
        self._backlog.close()
        self._finish(self._ending)

    def _write_next(self) -> str:
        """Append a row, or flush when none came for a while; returns why nothing more can be written."""
        try:
            row = self._backlog.get(FLUSH_INTERVAL_S)
            if self._write_problem:
                return ""
            if row is None:
                self.writer.flush_if_due()
            else:
                self.writer.append(row)
        except EpisodeError as error:
            return str(error)
        except Exception as error:
            traceback.print_exc()
            return f"internal error: {error!r}"
        self._trouble = self._trouble or self.writer.trouble or self._disk_full()
        return ""

    def _disk_full(self) -> str:
        if self.writer.rows % 50:
            return ""
        try:
            free = shutil.disk_usage(self.writer.folder).free
        except OSError:
            return ""  # the folder was removed: the writer says so
        return "the disk is nearly full" if free < DISK_RESERVE_BYTES else ""

    def _encode(self, image) -> bytes:
        return images.encode(image, self.header.jpeg_quality, self.header.jpeg_colour)

    def _finish(self, ending: Ending) -> None:
        reason = self._write_problem or ending.reason
        quality = self._standards.judge(self.tally).as_dict()
        try:
            if not ending.save:
                path = self.writer.discard(reason)
            elif self.writer.rows == 0:
                path = self.writer.discard(reason := f"{self.waiting_for or reason}, before the first row")
            else:
                path = self.writer.close(reason, ending.label, self.checkpoint, quality, self.instruction)
        except Exception as error:
            path, reason = self.writer.path, str(error)
            if not isinstance(error, EpisodeError):
                traceback.print_exc()
                reason = f"internal error: {error!r}"
        rows = self.writer.flushed_rows
        self.report = {
            "path": str(path),
            "saved": path == self.writer.final_path,
            "end_reason": reason,
            "label": ending.label,
            "instruction": self.instruction,
            "rows": rows,
            "seconds": rows * self._period_ns * 1e-9,
            "rate_hz": self.header.control_rate_hz,
            "late_rows": self.late_rows,
            "streams": self.tally.streams(),
            "interventions": dict(self.tally.interventions),
            "quality": quality,
        }
