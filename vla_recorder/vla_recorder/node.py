"""Node `recorder`: demonstrations and rollouts of a rig -> episode files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_msgs.msg import EpisodeStatus, PolicyStatus
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.finished import in_trash
from vla_recorder.folder import OwnFolder
from vla_recorder.gesture import StartGesture, gripper_reader
from vla_recorder.maker import TakeMaker
from vla_recorder.parameters import declare_parameters
from vla_recorder.services import Services
from vla_recorder.session import SYNC_S, Session, State
from vla_recorder.status import disk_left_min, status_message
from vla_recorder.streams import Streams
from vla_recorder.take import Ending, Take
from vla_recorder.texts import check_length
from vla_recorder.tools import report as reports
from vla_recorder.watch import Watch
from vla_rig import qos
from vla_rig.diagnostics import RigDiagnostics
from vla_rig.joints import JointError, VectorReader
from vla_rig.nodes import UserError
from vla_rig.rig_file import RigError, load_rig

STATUS_PERIOD_S = 0.5
_TICK_S = 0.05
_IDLE_NS = 200_000_000  # of messages are kept while no rows are taken: the next take needs none from before its start


class Recorder(Node):
    """Records one episode after the other. Services, keys and the start gesture all come to its methods.

    They raise EpisodeError, which says why not, when something does not fit the moment or the disk refuses.
    """

    def __init__(self, overrides: list[Parameter] | None = None) -> None:
        super().__init__("recorder", parameter_overrides=overrides or [])
        declare_parameters(self)
        try:
            self.rig = load_rig(self._value("rig"))
            self._own = OwnFolder(self.get_fully_qualified_name())
            self._folder = self._own.take(self._value("folder"))
        except (RigError, EpisodeError) as error:
            raise UserError(str(error)) from None
        self._fault = ""
        self._streams = Streams(self, self.rig, self._value("action_from"))
        try:
            self._maker = TakeMaker(self, self.rig, self._streams)
        except JointError as error:
            raise UserError(f"action_from is 'leader', but {error}") from None
        self.session = Session(self._begin)
        self._watch = Watch(self, self.session, self._streams)
        self._gesture = StartGesture(self._value("gesture_hold_s"))
        self._grippers = self._gripper_reader()
        self.create_subscription(PolicyStatus, "policy/status", self._on_policy, qos.reliable(5))
        self._status = self.create_publisher(EpisodeStatus, "~/status", qos.STATUS)
        self._diagnostics = RigDiagnostics(self, self.rig.name, self._streams.inputs, own=self._diagnosis)
        Services(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_S, self._look, clock=steady)
        self.create_timer(_TICK_S, self._tick, clock=steady)
        self._publish_status()
        self.get_logger().info(f"rig {self.rig.name}; episodes go to {self._folder}")
        self._watch.tell_of_unfinished(self._folder)

    def _gripper_reader(self) -> VectorReader | None:
        if not self._value("start_gesture"):
            return None
        reader = gripper_reader(self.rig)
        if reader is None:
            raise UserError(
                f"start_gesture is set, but rig '{self.rig.name}' has no leader gripper with a range"
            )
        return reader

    def _value(self, parameter: str):
        return self.get_parameter(parameter).value

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    # --- what an operator can do

    def start(self, instruction: str = "", countdown_s: float = 0.0) -> Take | None:
        """Begin an episode, now or after a countdown; the take, or None while counting down."""
        with self._telling():
            self.session.start(instruction or self._coming_instruction(), countdown_s)
            return None if self.session.state is State.COUNTDOWN else self.session.take

    def start_soon(self) -> None:
        """Begin an episode after the countdown of the parameters."""
        self.start(countdown_s=self._value("countdown_s"))

    def stop(self, ending: Ending) -> dict | None:
        """End the running episode and wait until it is on disk; its report, or None when it was a countdown."""
        with self._telling():
            return self.session.stop(ending)

    def label(self, label: str) -> dict:
        """End the running episode with a label, or label the last saved one; its report."""
        with self._telling():
            report = self.session.label(label)
        if not report["saved"]:
            raise EpisodeError(f"not saved: {report['end_reason']}")
        self.get_logger().info(f"{label}: {report['path']}")
        return report

    def next(self) -> None:
        """Save the running episode, if there is one, and start the next after the countdown."""
        with self._telling():
            self.session.next(self._coming_instruction(), self._value("countdown_s"))

    def redo(self) -> None:
        """Discard the running episode, or the last saved one, and start the same again after the countdown."""
        with self._telling():
            trashed = self.session.redo(self._value("countdown_s"))
        if trashed is not None:
            self.get_logger().info(f"discarded: {trashed}")

    def set_instruction(self, text: str) -> str:
        """A new instruction, for the running episode from now on and for the next ones."""
        if not check_length(text):
            raise EpisodeError("the instruction must not be empty")
        self.set_parameters([Parameter("instruction", value=text)])
        with self._telling():
            self.session.instruction = text
            if self.session.recording:
                self._maker.texts.set_instruction(text, self._now_ns())
                self.session.take.instruction = text
        return f"instruction: {text}"

    def set_substep(self, text: str) -> str:
        """What is done from now on in the running episode; empty: the instruction again."""
        with self._telling():
            self._refuse_substep()
            self._maker.texts.set_substep(check_length(text), self._now_ns())
        return f"sub-step: {text}" if text else "sub-step: none"

    def choose_substep(self, index: int | None = None) -> None:
        """The index-th (from 0) of the parameter's sub-steps in the running episode, or the next of them."""
        with self._telling():
            self._refuse_substep()
            texts, now_ns = self._maker.texts, self._now_ns()
            found = texts.next_substep(now_ns) if index is None else texts.choose_substep(index, now_ns)
            if not found:
                raise EpisodeError(
                    f"no such sub-step: {len(texts.substeps)} were given (--substep, or parameter 'substeps')"
                )

    def _coming_instruction(self) -> str:
        """Of an episode that is started without one: the parameter's, else that of the episode before."""
        return self._value("instruction") or self.session.instruction

    def _refuse_substep(self) -> None:
        if not self.session.recording:
            raise EpisodeError("not recording: a sub-step belongs to a running episode")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Whatever comes of it, the status says so at once."""
        try:
            yield
        finally:
            self._publish_status()

    # --- takes

    def _begin(self, instruction: str) -> Take:
        try:
            self._folder = self._own.take(self._value("folder"))
            take = self._maker.make(self._folder, instruction, self._on_done)
        except EpisodeError as error:
            self._fault = str(error)
            raise
        self._fault = ""
        take.start()
        self.get_logger().info(f"recording {take.writer.final_path}: '{instruction}'")
        if self._streams.leaders is not None and not take.header.leader:
            names = ", ".join(self._streams.leaders.counts)
            self.get_logger().info(f"without the leader arms: not all were heard just now ({names})")
        return take

    def _on_done(self, take: Take, report: dict) -> None:
        """Called by the take's own thread, however it ended."""
        self.session.count(report)
        trashed = in_trash(report["path"])
        if not report["saved"] and not trashed:
            self._fault = report["end_reason"]
        if report["saved"]:
            self._watch.saved(take.writer)
        state = "saved" if report["saved"] else "discarded" if trashed else "NOT FINISHED"
        log = self.get_logger().info if report["saved"] or trashed else self.get_logger().error
        if report["rows"]:
            log(f"{state}: {reports.text(report)}")
        else:
            log(f"nothing recorded: {report['end_reason']}")
        lost = [f"{name} {stream['lost']}" for name, stream in report["streams"].items() if stream["lost"]]
        if lost:
            self.get_logger().warning(
                f"messages lost on their way here: {', '.join(lost)}. Transports with more room help (README), and "
                "publishers that offer reliable"
            )
        self._publish_status()

    def _on_policy(self, message: PolicyStatus) -> None:
        commanding = message.state in (PolicyStatus.STATE_RUNNING, PolicyStatus.STATE_HOLDING)
        self._maker.checkpoint = message.checkpoint if commanding else ""
        if self._maker.checkpoint and self.session.recording:
            self.session.take.checkpoint = self._maker.checkpoint

    # --- what happens by itself

    def _tick(self) -> None:
        """Countdown and start gesture, and nothing held that nobody will ask for."""
        if self.session.take is None or not self.session.take.taking:
            self._streams.inputs.aligner.forget_before(self._now_ns() - _IDLE_NS)
        try:
            began = self.session.tick()
            if self._grippers is not None:
                began |= self._follow_grippers()
            if began:
                self._publish_status()
        except EpisodeError as error:
            self.get_logger().error(str(error))
            self._publish_status()

    def _follow_grippers(self) -> bool:
        """True when the gesture started an episode: at once, for the hands are on the leaders."""
        if self.session.state is not State.IDLE:
            self._gesture.reset()
            return False
        sample = self._streams.leader_sample(self._now_ns())
        try:
            openings = self._grippers.read(sample.values) if sample is not None else None
        except JointError:
            openings = None  # the stream's status names what is wrong with it
        if not self._gesture.update(openings, time.monotonic()):
            return False
        self.start()
        return True

    def _look(self) -> None:
        """Every half second."""
        self._watch.look()
        self._fault = self._watch.lost() or self._fault
        self._publish_status()

    def status_message(self) -> EpisodeStatus:
        """The present state, for the topic and the terminal."""
        session, maker, streams = self.session, self._maker, self._streams.status(self._now_ns())
        left_min = disk_left_min(self._folder, self.rig, self._value("image_form"), session.take)
        message = status_message(
            session, maker.rows, maker.texts, streams, maker.before, left_min, self._fault
        )
        if session.state is State.IDLE:
            message.instruction = self._coming_instruction()
        message.header.stamp = self.get_clock().now().to_msg()
        return message

    def _publish_status(self) -> None:
        if self.context.ok():  # else shutting down: nobody is there to be told
            self._status.publish(self.status_message())

    def _diagnosis(self) -> tuple[str, bytes, str, dict]:
        status = self.status_message()
        level = DiagnosticStatus.WARN if status.reason and self.session.recording else DiagnosticStatus.OK
        if status.state == EpisodeStatus.STATE_FAULT:
            level = DiagnosticStatus.ERROR
        values = {
            "episode": status.path,
            "rows": status.rows,
            "queue_fill": f"{status.queue_fill:.2f}",
            "disk_left_min": f"{status.disk_left_min:.1f}",
            "saved": status.saved,
            "discarded": status.discarded,
        }
        return "recorder", level, f"{self.session.state.value} {status.reason}".strip(), values

    def close(self) -> None:
        """Save a running episode; nothing recorded is lost when the process is asked to end."""
        if self.session.recording:
            self.get_logger().info("interrupted: saving the episode")
        with contextlib.suppress(EpisodeError):  # it has just ended by itself
            if self.session.state is not State.IDLE:
                self.stop(Ending("interrupted"))
        self._watch.wait_synced(SYNC_S)
        self._own.release()
