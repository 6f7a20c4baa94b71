"""What both replays share: a node whose worker goes through time on the node's clock, and ends the process."""

from __future__ import annotations

import threading

from rclpy.node import Node

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_rig.gate import GateClosedError
from vla_rig.nodes import start_worker
from vla_rig.rig import Rig
from vla_rig.rig_file import RigError, load_rig, rig_from_yaml

_CLOCK_BACK_NS = 1_000_000_000
_REAL_WAIT_S, _SIM_WAIT_S = 0.1, 0.002


class Replay(Node):
    """Runs `play()` in a thread; when that is over, or fails, the process ends.

    `failure` says why it failed; `finished` that it came to its end.
    """

    def __init__(self) -> None:
        super().__init__("replay")
        self.failure, self.finished = "", False
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """To be called when the node is complete."""
        self._thread = start_worker(self, self._run, "replay")

    def play(self) -> bool:
        """The replay itself; True at its end, False when stopped. EpisodeError or GateClosedError: it cannot go on."""
        raise NotImplementedError

    def now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def wait_until(self, t_ns: int) -> bool:
        """Until the node's clock has come to t_ns; False when stopped. EpisodeError when the clock is set back."""
        seen_ns = self.now_ns()
        while (left_ns := t_ns - self.now_ns()) > 0:
            if t_ns - left_ns < seen_ns - _CLOCK_BACK_NS:
                raise EpisodeError("the clock was set back: start the replay again")
            seen_ns = t_ns - left_ns
            longest_s = _SIM_WAIT_S if self.get_clock().ros_time_is_active else _REAL_WAIT_S
            if self.stopping.wait(min(longest_s, left_ns * 1e-9)):
                return False
        return not self.stopping.is_set()

    def _run(self) -> None:
        try:
            self.finished = self.play()
        except (EpisodeError, GateClosedError) as error:
            self.failure = str(error)
            self.get_logger().error(self.failure)
        self.context.try_shutdown()

    def close(self) -> None:
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)


def rig_of(episode: EpisodeReader, rig: str | None) -> Rig:
    """The rig file that was asked for, else the one that the episode carries. Raises EpisodeError."""
    try:
        if rig:
            return load_rig(rig)
        if episode.rig_text is None:
            raise EpisodeError(f"{episode.path}: carries no rig file; name one with --rig")
        return rig_from_yaml(episode.rig_text, f"{episode.path}: /vla/rig")
    except RigError as error:
        raise EpisodeError(str(error)) from None
