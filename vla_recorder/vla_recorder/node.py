"""Node `recorder`: demonstrations and rollouts of a rig -> episode files."""

from __future__ import annotations

import threading
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_msgs.msg import EpisodeStatus, PolicyStatus
from vla_msgs.srv import StartEpisode, StopEpisode
from vla_recorder.commands import CommandInput
from vla_recorder.episode import layout
from vla_recorder.episode.layout import EpisodeError, EpisodeHeader
from vla_recorder.parameters import HISTORY_S, declare_parameters
from vla_recorder.provenance import software
from vla_recorder.rows import RigRows
from vla_recorder.status import status_message
from vla_recorder.take import Ending, Take
from vla_recorder.tools import report as reports
from vla_rig import qos
from vla_rig.diagnostics import RigDiagnostics
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError
from vla_rig.nodes import UserError
from vla_rig.rig_file import RigError, load_rig

STATUS_PERIOD_S = 0.5


class Recorder(Node):
    """Records one episode after the other, started and stopped by services or keys."""

    def __init__(self, overrides: list[Parameter] | None = None) -> None:
        super().__init__("recorder", parameter_overrides=overrides or [])
        declare_parameters(self)
        try:
            self._rig = rig = load_rig(self._value("rig"))
        except RigError as error:
            raise UserError(str(error)) from None
        self._software = software()
        self._take: Take | None = None
        self._lock = threading.Lock()  # services and keys start and stop from different threads
        self._fault = ""
        self._failing: set[str] = set()
        self._checkpoint = ""
        self._received_before: dict[str, int] = {}
        sources = list(dict.fromkeys(channel.source for channel in rig.state))
        if self._value("action_from") == "leader":
            sources += [source for source in rig.leader_sources if source not in sources]
        self._inputs = RigInputs(self, rig, cameras=rig.cameras, sources=sources, history_s=HISTORY_S)
        self._diagnostics = RigDiagnostics(self, rig.name, self._inputs)
        self._commands = CommandInput(self, rig)
        self._new_rows()  # a rig that cannot be recorded this way fails now, not at the first start
        self.create_subscription(PolicyStatus, "policy/status", self._on_policy, qos.reliable(5))
        self._status = self.create_publisher(EpisodeStatus, "~/status", qos.STATUS)
        self.create_service(StartEpisode, "~/start", self._on_start)
        self.create_service(StopEpisode, "~/stop", self._on_stop)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_S, self._watch, clock=steady)
        self._publish_status()

    def _value(self, parameter: str):
        return self.get_parameter(parameter).value

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _new_rows(self) -> RigRows:
        try:
            return RigRows(self._rig, self._inputs, self._commands, self._value("action_from"))
        except JointError as error:
            raise UserError(f"action_from is 'leader', but {error}") from None

    @property
    def recording(self) -> bool:
        return self._take is not None and not self._take.done

    def start(self, instruction: str = "") -> str:
        """Begin an episode; returns its path. Raises EpisodeError saying why not."""
        with self._lock:
            if self.recording:
                raise EpisodeError(f"already recording {self._take.writer.final_path}")
            instruction = instruction or self._value("instruction")
            if not instruction:
                raise EpisodeError(
                    "no instruction: give one in the request or set the parameter 'instruction'"
                )
            try:
                self._take = self._begin(instruction)
            except EpisodeError as error:
                self._fault = str(error)
                raise
            finally:
                self._publish_status()
        self.get_logger().info(f"recording {self._take.writer.final_path}: '{instruction}'")
        return str(self._take.writer.final_path)

    def _begin(self, instruction: str) -> Take:
        folder = Path(self._value("folder")).expanduser().absolute()
        rows = self._new_rows()
        header = self._header(instruction, rows)
        self._received_before = {name: count.received for name, count in self._counts().items()}
        take = Take(
            folder,
            header,
            rows,
            self._now_ns,
            on_done=self._on_done,
            settle_s=self._value("settle_s"),
            max_rows=self._value("max_rows"),
            queue_rows=self._value("queue_rows"),
        )
        self._fault = ""
        take.start()
        return take

    def _header(self, instruction: str, rows: RigRows) -> EpisodeHeader:
        rig, sim = self._rig, self._value("sim")
        if self._value("use_sim_time") and not sim:
            self.get_logger().warning(
                "use_sim_time is set, but the episode says sim: false (parameter 'sim')"
            )
        return EpisodeHeader(
            state_names=rig.state_names,
            state_units=[channel.unit for channel in rig.state],
            action_names=rig.action_names,
            action_units=[channel.unit for channel in rig.action],
            cameras={name: (camera.height, camera.width) for name, camera in rig.cameras.items()},
            stream_names=rows.stream_names,
            stream_topics=rows.stream_topics,
            control_rate_hz=rig.control_rate_hz,
            instruction=instruction,
            sim=sim,
            rig=rig.to_yaml(),
            action_from=self._value("action_from"),
            checkpoint=self._checkpoint,
            software=self._software,
        )

    def stop(self, ending: Ending) -> dict:
        """End the running episode and wait until it is on disk; returns the report. Raises EpisodeError."""
        with self._lock:
            if not self.recording:
                raise EpisodeError("not recording")
            return self._take.stop(ending)

    def _counts(self) -> dict:
        return {**self._inputs.counts, "command": self._commands.count}

    def _on_done(self, report: dict) -> None:
        """Called by the take's own thread, however it ended."""
        elapsed_s = max(self._take.elapsed_s(), 1e-9)
        for name, count in self._counts().items():
            report["streams"][name]["rate_hz"] = (count.received - self._received_before[name]) / elapsed_s
        trashed = f"/{layout.TRASH}/" in report["path"]
        if not report["saved"] and not trashed:
            self._fault = report["end_reason"]
        state = "saved" if report["saved"] else "discarded" if trashed else "NOT FINISHED"
        log = self.get_logger().info if report["saved"] or trashed else self.get_logger().error
        log(f"{state}: {reports.text(report)}")
        self._publish_status()

    def _on_policy(self, message: PolicyStatus) -> None:
        commanding = message.state in (PolicyStatus.STATE_RUNNING, PolicyStatus.STATE_HOLDING)
        self._checkpoint = message.checkpoint if commanding else ""
        if self._checkpoint and self.recording:
            self._take.checkpoint = self._checkpoint

    def _on_start(self, request, response):
        try:
            response.path = self.start(request.instruction)
            response.episode_index = self._take.writer.index
            response.success, response.message = True, f"recording {response.path}"
        except EpisodeError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_stop(self, request, response):
        # Blocks this executor until the file is closed; the row thread needs no callback for that.
        try:
            if request.label >= len(layout.LABELS):
                raise EpisodeError(f"label must be below {len(layout.LABELS)}, got {request.label}")
            ending = Ending(request.end_reason or "operator", request.save, layout.LABELS[request.label])
            report = self.stop(ending)
        except EpisodeError as error:
            response.success, response.message = False, str(error)
            return response
        response.success = report["saved"] if request.save else layout.TRASH in Path(report["path"]).parts
        response.message = report["end_reason"]
        response.path, response.rows = report["path"], report["rows"]
        return response

    def _publish_status(self) -> None:
        if not self.context.ok():
            return  # shutting down: nobody is there to be told
        now_ns = self._now_ns()
        streams = [*self._inputs.status(now_ns), self._commands.status(now_ns)]
        message = status_message(self._take, streams, self._received_before, self._fault)
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)

    def _watch(self) -> None:
        """Every half second: tell the operator which streams began to fail and which recovered."""
        problems = self._take.problems if self.recording else {}
        for stream in problems.keys() - self._failing:
            topic = self._counts()[stream].topic
            self.get_logger().warning(f"{stream} ({topic}): {problems[stream]}; its rows are marked")
        for stream in self._failing - problems.keys() if self.recording else ():
            self.get_logger().info(f"{stream}: healthy again")
        self._failing = set(problems)
        self._publish_status()

    def close(self) -> None:
        """Save a running episode; nothing recorded is lost when the process is asked to end."""
        if self.recording:
            self.get_logger().info("interrupted: saving the episode")
            self.stop(Ending("interrupted"))
