"""The recorder's services: each hands its request to the recorder, and says what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from std_srvs.srv import Trigger

from vla_msgs.srv import SetInstruction, StartEpisode, StopEpisode
from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.finished import in_trash
from vla_recorder.parameters import MAX_COUNTDOWN_S
from vla_recorder.take import Ending

if TYPE_CHECKING:
    from vla_recorder.node import Recorder


class Services:
    """Creates `~/start`, `~/stop`, `~/discard`, `~/success`, `~/failure`, `~/redo`, `~/next` and the texts' setters.

    A call that ends an episode answers once it is closed, and blocks the executor until then; rows need no callback.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        recorder.create_service(StartEpisode, "~/start", _answering(self._start))
        recorder.create_service(StopEpisode, "~/stop", _answering(self._stop))
        for name, act in (
            ("discard", self._discard),
            ("success", lambda: self._label("success")),
            ("failure", lambda: self._label("failure")),
            ("redo", self._redo),
            ("next", self._next),
        ):
            recorder.create_service(Trigger, f"~/{name}", _answering(_saying(act)))
        recorder.create_service(
            SetInstruction, "~/set_instruction", _answering(_setting(recorder.set_instruction))
        )
        recorder.create_service(SetInstruction, "~/set_substep", _answering(_setting(recorder.set_substep)))

    def _start(self, request, response) -> None:
        if not 0 <= request.countdown_s <= MAX_COUNTDOWN_S:
            raise EpisodeError(f"countdown_s must be 0 to {MAX_COUNTDOWN_S:g}, got {request.countdown_s:g}")
        take = self._recorder.start(request.instruction, request.countdown_s)
        if take is None:
            response.message = f"recording begins in {request.countdown_s:g} s"
            return
        response.path, response.episode_index = str(take.writer.final_path), take.writer.index
        response.message = f"recording {response.path}"

    def _stop(self, request, response) -> None:
        if request.label >= len(layout.LABELS):
            raise EpisodeError(f"label must be below {len(layout.LABELS)}, got {request.label}")
        ending = Ending(request.end_reason or "operator", request.save, layout.LABELS[request.label])
        report = self._recorder.stop(ending)
        if report is None:
            raise EpisodeError("the countdown was cancelled; nothing was recorded")
        response.success = report["saved"] if request.save else in_trash(report["path"])
        response.message = report["end_reason"]
        response.path, response.rows = report["path"], report["rows"]

    def _discard(self) -> str:
        report = self._recorder.stop(Ending("operator", save=False))
        if report is None:
            return "the countdown was cancelled"
        if not in_trash(report["path"]):
            raise EpisodeError(report["end_reason"])
        return f"discarded: {report['path']}"

    def _label(self, label: str) -> str:
        return f"{label}: {self._recorder.label(label)['path']}"

    def _redo(self) -> str:
        self._recorder.redo()
        return self._coming()

    def _next(self) -> str:
        self._recorder.next()
        return self._coming()

    def _coming(self) -> str:
        left_s = self._recorder.session.countdown_s
        return f"recording begins in {left_s:.1f} s" if left_s else "recording"


def _answering(act: Callable) -> Callable:
    """A service callback: success unless `act` says otherwise, or raises EpisodeError, whose text is the message."""

    def answer(request, response):
        response.success = True
        try:
            act(request, response)
        except EpisodeError as error:
            response.success, response.message = False, str(error)
        return response

    return answer


def _saying(act: Callable[[], str]) -> Callable:
    def say(_request, response) -> None:
        response.message = act()

    return say


def _setting(act: Callable[[str], str]) -> Callable:
    def set_(request, response) -> None:
        response.message = act(request.instruction)

    return set_
