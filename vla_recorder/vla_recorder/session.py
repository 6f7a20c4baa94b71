"""What an operator can do at which moment: one state machine for services, keys and the start gesture. No ROS."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vla_recorder import finished
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.take import Ending, Take
from vla_recorder.texts import check_length

SYNC_S = 30.0
"""How long a label, the way to the trash, or the end of the recorder waits for the disk to have an episode."""


class State(enum.Enum):
    """Where a session stands."""

    IDLE = "idle"
    COUNTDOWN = "countdown"
    RECORDING = "recording"
    SAVING = "saving"


class Session:
    """One episode after the other.

        IDLE --start--> COUNTDOWN --(time is over)--> RECORDING --stop, discard, or by itself--> SAVING --> IDLE

    `start` without a countdown goes to RECORDING at once; stop and discard in COUNTDOWN cancel it. `next` is stop
    and start, `redo` is discard and start; both also work from IDLE, where redo puts the last saved episode into the
    trash. `label` ends what runs with that label, or else labels the last saved episode. What does not fit the
    moment raises EpisodeError, says why, and changes nothing.

    Thread-safe. `begin(instruction)` makes and starts a Take, or raises EpisodeError; `tick` must be called often
    enough for the countdown, and `count` with the report of each take that ended, from whatever thread.
    """

    def __init__(self, begin: Callable[[str], Take], now_s: Callable[[], float] = time.monotonic) -> None:
        self.take: Take | None = None  # the running or the last one
        self.instruction = ""  # of the running, coming or last episode
        self.saved = self.discarded = 0
        self._before: dict | None = None  # report of the episode before self.take
        self._begin, self._now_s = begin, now_s
        self._lock = threading.RLock()
        self._start_at_s: float | None = None

    @property
    def state(self) -> State:
        take = self.take
        if take is not None and not take.done:
            return State.SAVING if take.saving else State.RECORDING
        return State.IDLE if self._start_at_s is None else State.COUNTDOWN

    @property
    def recording(self) -> bool:
        """True from the start of an episode until its file is closed."""
        return self.state in (State.RECORDING, State.SAVING)

    @property
    def last(self) -> dict | None:
        """Report of the episode that ended last."""
        return self.take.report if self.take is not None and self.take.done else self._before

    @property
    def countdown_s(self) -> float:
        """Time until recording begins; 0 when not counting down."""
        at_s = self._start_at_s
        return 0.0 if at_s is None else max(0.0, at_s - self._now_s())

    def start(self, instruction: str, countdown_s: float = 0.0) -> None:
        """Record now, or after the countdown."""
        with self._lock:
            if self.recording:
                raise EpisodeError(f"already recording {self.take.writer.final_path}")
            if self.state is State.COUNTDOWN:
                raise EpisodeError(f"already counting down: {self.countdown_s:.1f} s left")
            if not instruction:
                raise EpisodeError(
                    "no instruction: give one with --instruction, in the request, or as parameter 'instruction'"
                )
            self.instruction = check_length(instruction)
            if countdown_s > 0:
                self._start_at_s = self._now_s() + countdown_s
            else:
                self._begin_now()

    def _begin_now(self) -> None:
        self._start_at_s = None
        self._before, self.take = self.last, self._begin(self.instruction)

    def tick(self) -> bool:
        """Begin when the countdown is over; True when it began just now. Never waits for another thread."""
        if self._start_at_s is None or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._start_at_s is None or self.countdown_s > 0:
                return False
            self._begin_now()
            return True
        finally:
            self._lock.release()

    def stop(self, ending: Ending) -> dict | None:
        """End what runs and wait until it is on disk; its report, or None when a countdown was cancelled."""
        with self._lock:
            if self.state is State.COUNTDOWN:
                self._start_at_s = None
                return None
            if self.state is State.IDLE:
                raise EpisodeError("not recording")
            report = self.take.stop(ending)
            # it may have been ending by itself just now, in another way
            if report["saved"] and not ending.save:
                self._put_away(self._last_saved("discard"))
            elif report["saved"] and report["label"] != ending.label:
                self._relabel(self._last_saved("label"), ending.label)
            return self.last

    def label(self, label: str) -> dict:
        """End what runs with this label, or else label the last saved episode; its report."""
        with self._lock:
            if self.recording:
                return self.stop(Ending("operator", label=label))
            self._relabel(self._last_saved("label"), label)
            return self.last

    def next(self, default_instruction: str, countdown_s: float) -> None:
        """Save what runs and start the same again after the countdown; when nothing runs, start the default."""
        with self._lock:
            instruction = default_instruction
            if self.recording:
                instruction = self.instruction
                report = self.stop(Ending("operator: next"))
                if not report["saved"]:
                    raise EpisodeError(f"not saved, so nothing is started: {report['end_reason']}")
            self.start(instruction, countdown_s)

    def redo(self, countdown_s: float) -> Path | None:
        """Discard what runs, or put the last saved episode into the trash, and start the same again.

        Where the last saved one went, if that was it.
        """
        trashed = None
        with self._lock:
            if self.recording:
                self.stop(Ending("operator: redo", save=False))
            elif self.last is None:
                raise EpisodeError("nothing to redo: no episode has ended since this recorder was started")
            elif self.last["saved"]:
                trashed = self._put_away(self._last_saved("redo"))
                self._start_at_s = None  # a countdown begins anew
            self.start(self.instruction, countdown_s)
        return trashed

    def _relabel(self, path: Path, label: str) -> None:
        self.take.writer.wait_synced(SYNC_S)
        finished.relabel(path, label)
        self.take.report |= {"label": label}

    def _put_away(self, path: Path) -> Path:
        self.take.writer.wait_synced(SYNC_S)
        trashed = finished.put_away(path)
        self.take.report |= {"saved": False, "path": str(trashed)}
        self.saved, self.discarded = self.saved - 1, self.discarded + 1
        return trashed

    def _last_saved(self, what: str) -> Path:
        if self.last is None or not self.last["saved"]:
            raise EpisodeError(f"nothing to {what}: the last episode was not saved, and none is running")
        path = Path(self.last["path"])
        if not path.exists():
            raise EpisodeError(f"nothing to {what}: {path} is no longer there")
        return path

    def count(self, report: dict) -> None:
        """A take has ended, however it did. Called by its own thread: takes no lock."""
        self.saved += report["saved"]
        self.discarded += finished.in_trash(report["path"])
