"""The rig file: one YAML file that says everything about a rig.

Policy node, recorder, teleop, simulator and training read the same file; an episode and a
checkpoint embed it. Loading checks every reference (source, joint, sink, range), so that a
mistake is found before anything moves.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Topic = Annotated[str, StringConstraints(pattern=r"^/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z0-9_]+)*$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Quantity = Literal["position", "velocity", "effort"]
MessageType = Literal[
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
    "interbotix_xs_msgs/msg/JointGroupCommand",
    "interbotix_xs_msgs/msg/JointSingleCommand",
]


class RigPart(BaseModel):
    """Base of all parts: unknown keys are errors, parts never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(RigPart):
    """One camera stream."""

    topic: Topic
    message: Literal["raw", "compressed"] = "raw"
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    encoding: str = "rgb8"
    """What the driver publishes; what a simulator must publish. Images are always handed on as RGB."""
    rate_hz: Positive
    max_age_s: Positive


class JointSource(RigPart):
    """One JointState topic. Joints are matched by name, never by position in the message."""

    topic: Topic
    joints: Annotated[list[str], Field(min_length=1)]
    rate_hz: Positive
    max_age_s: Positive


class JointRef(RigPart):
    """A joint of a source, optionally mapped by a named range (0 closed .. 1 open)."""

    source: Name
    joint: str
    range: Name | None = None


class StateChannel(JointRef):
    """One number of the state vector. Its velocity and effort give the same column of qvel and effort."""

    name: Name
    quantity: Quantity = "position"
    unit: str
    effort_joint: str | None = None
    """Where the effort is measured, when not at `joint` (ALOHA: finger position, gripper motor current)."""


class ActionChannel(RigPart):
    """One number of the action vector: where it goes and what bounds it. Bounds are in the action's unit."""

    name: Name
    sink: Name
    joint: str
    quantity: Quantity = "position"
    unit: str
    range: Name | None = None
    min: Finite
    max: Finite
    max_velocity: Positive
    """Largest change per second, in the action's unit."""
    feedback: JointRef | None = None
    """Where the commanded joint is measured, in the same unit; optional for velocity and effort."""
    leader: JointRef | None = None
    """Which leader joint teleoperates it."""
    average: bool = True
    """False for quantities whose mean is meaningless (a binary gripper): the newest chunk decides."""

    @model_validator(mode="after")
    def _bounds(self) -> ActionChannel:
        if not self.min < self.max:
            raise ValueError(f"min {self.min} must be below max {self.max}")
        if self.quantity == "position" and self.feedback is None:
            raise ValueError("a position needs 'feedback': motion must start from where the joint is")
        return self


class Sink(RigPart):
    """One command topic. Values go out in the order of `joints`."""

    topic: Topic
    message: MessageType
    joints: Annotated[list[str], Field(min_length=1)]
    group: str | None = None
    """Interbotix joint group name, for JointGroupCommand."""


class Limit(RigPart):
    """Above `check` somebody should look at an episode, above `bad` nothing should learn from it."""

    check: Share
    bad: Share

    @model_validator(mode="after")
    def _order(self) -> Limit:
        if self.check > self.bad:
            raise ValueError(f"check {self.check} must not be above bad {self.bad}")
        return self


class Recording(RigPart):
    """What a recorded episode is judged by; each limit is a share, 0 .. 1, for the worst stream where it has one."""

    stale: Limit = Limit(check=0.0, bad=0.02)
    """Rows whose newest message was older than the stream's max_age_s, or could not be used."""
    gaps: Limit = Limit(check=0.01, bad=0.05)
    """Intervals between messages that are longer than the stream's rate explains."""
    repeats: Limit = Limit(check=0.1, bad=0.3)
    """Rows that used the message of the row before, beyond what the stream's rate explains."""
    late: Limit = Limit(check=0.05, bad=0.5)
    """Rows taken at the end of patience, though a stream had not moved on."""
    interventions: Limit = Limit(check=0.2, bad=0.6)
    """Rows whose command the gate changed."""


class Rig(RigPart):
    """A validated rig."""

    name: Name
    control_rate_hz: Positive
    max_skew_s: Positive
    """Largest spread of stamps between the streams of one observation."""
    max_lead_s: Positive = 0.3
    """How far a command may run ahead of the measured joint, as seconds at max_velocity."""
    cameras: dict[Name, Camera]
    joint_sources: Annotated[dict[Name, JointSource], Field(min_length=1)]
    ranges: dict[Name, tuple[Finite, Finite]] = {}
    """Named [closed, open] pairs that map a raw joint value to 0 .. 1."""
    state: Annotated[list[StateChannel], Field(min_length=1)]
    action: Annotated[list[ActionChannel], Field(min_length=1)]
    sinks: Annotated[dict[Name, Sink], Field(min_length=1)]
    rest_pose: dict[Name, Finite]
    """Action values of the pose in which an episode starts."""
    recording: Recording = Recording()
    """When an episode is good, to be checked, or bad."""

    @model_validator(mode="after")
    def _references(self) -> Rig:
        problems = [
            p
            for check in (_check_ranges, _check_joints, _check_sinks, _check_names, _check_streams)
            for p in check(self)
        ]
        if problems:
            raise ValueError("\n".join(problems))  # vla_rig.rig_file finds the line of each
        return self

    @cached_property
    def state_names(self) -> list[str]:
        return [c.name for c in self.state]

    @cached_property
    def action_names(self) -> list[str]:
        return [c.name for c in self.action]

    @cached_property
    def follower_sources(self) -> list[str]:
        """Sources that the state vector or the gate's feedback reads."""
        used = {c.source for c in self.state} | {c.feedback.source for c in self.action if c.feedback}
        return [s for s in self.joint_sources if s in used]

    @cached_property
    def leader_sources(self) -> list[str]:
        used = {c.leader.source for c in self.action if c.leader}
        return [s for s in self.joint_sources if s in used]

    @property
    def dt_s(self) -> float:
        return 1.0 / self.control_rate_hz

    def scale(self, range_name: str | None) -> tuple[float, float]:
        """Offset and gain with value = (raw - offset) * gain; (0, 1) without a range."""
        if range_name is None:
            return 0.0, 1.0
        closed, opened = self.ranges[range_name]
        return closed, 1.0 / (opened - closed)

    def to_yaml(self) -> str:
        """The resolved file, as episodes and checkpoints embed it."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)


def _check_ranges(rig: Rig) -> list[str]:
    problems = [f"ranges.{n}: closed and open are equal" for n, (a, b) in rig.ranges.items() if a == b]
    for where, ref in _references(rig):
        if ref.range is not None and ref.range not in rig.ranges:
            problems.append(f"{where}: range '{ref.range}' is not in ranges {sorted(rig.ranges)}")
    return problems


def _check_joints(rig: Rig) -> list[str]:
    problems = []
    for where, ref in _references(rig):
        if isinstance(ref, ActionChannel):
            continue
        source = rig.joint_sources.get(ref.source)
        if source is None:
            problems.append(
                f"{where}: source '{ref.source}' is not in joint_sources {sorted(rig.joint_sources)}"
            )
            continue
        wanted = [ref.joint] + ([ref.effort_joint] if getattr(ref, "effort_joint", None) else [])
        problems += [
            f"{where}: joint '{j}' is not among the joints of source '{ref.source}'"
            for j in wanted
            if j not in source.joints
        ]
    return problems


def _check_sinks(rig: Rig) -> list[str]:
    problems, filled = [], {(c.sink, c.joint) for c in rig.action}
    for c in rig.action:
        if c.sink not in rig.sinks:
            problems.append(f"action.{c.name}: sink '{c.sink}' is not in sinks {sorted(rig.sinks)}")
        elif c.joint not in rig.sinks[c.sink].joints:
            problems.append(f"action.{c.name}: joint '{c.joint}' is not among the joints of sink '{c.sink}'")
    for name, sink in rig.sinks.items():
        problems += [
            f"sinks.{name}: no action commands joint '{j}'" for j in sink.joints if (name, j) not in filled
        ]
        if sink.message.endswith("JointGroupCommand") and not sink.group:
            problems.append(f"sinks.{name}: JointGroupCommand needs 'group'")
        if sink.message.endswith("JointSingleCommand") and len(sink.joints) != 1:
            problems.append(f"sinks.{name}: JointSingleCommand carries one joint, got {len(sink.joints)}")
        if len({c.quantity for c in rig.action if c.sink == name}) > 1:
            problems.append(f"sinks.{name}: its actions must share one quantity")
    return problems


def _check_names(rig: Rig) -> list[str]:
    problems = []
    for key, names in {
        "state": [c.name for c in rig.state],
        "action": [c.name for c in rig.action],
        "cameras": [*rig.cameras, *rig.joint_sources],
        **{f"joint_sources.{n}.joints": s.joints for n, s in rig.joint_sources.items()},
        **{f"sinks.{n}.joints": s.joints for n, s in rig.sinks.items()},
    }.items():
        problems += [f"{key}: '{n}' occurs twice" for n in _twice(names)]
    actions = {c.name: c for c in rig.action}
    for name in sorted(set(actions) ^ set(rig.rest_pose)):
        problems.append(f"rest_pose: '{name}' is {'missing' if name in actions else 'not an action'}")
    for name, value in rig.rest_pose.items():
        if name in actions and not actions[name].min <= value <= actions[name].max:
            problems.append(
                f"rest_pose.{name}: {value} is outside [{actions[name].min}, {actions[name].max}]"
            )
    return problems


def _check_streams(rig: Rig) -> list[str]:
    """Two that share what only one can have are slips of copy and paste, and dangerous ones."""
    # Interbotix drivers serve several groups, or single joints, on one topic.
    sinks = [
        (n, (s.topic, s.group, s.joints[0] if s.message.endswith("JointSingleCommand") else ""))
        for n, s in rig.sinks.items()
    ]
    measured = [(c.name, c.feedback) for c in rig.action if c.feedback]
    problems = [
        *_shared("cameras", "topic", [(n, c.topic) for n, c in rig.cameras.items()]),
        *_shared("joint_sources", "topic", [(n, s.topic) for n, s in rig.joint_sources.items()]),
        *_shared("sinks", "topic", sinks),
        *_shared("state", "joint", [(c.name, (c.source, c.joint, c.quantity)) for c in rig.state]),
        *_shared("action", "sink and joint", [(c.name, (c.sink, c.joint)) for c in rig.action]),
        *_shared("action", "feedback", [(n, (f.source, f.joint)) for n, f in measured]),
    ]
    for where, stream in (
        *((f"cameras.{n}", c) for n, c in rig.cameras.items()),
        *((f"joint_sources.{n}", s) for n, s in rig.joint_sources.items()),
    ):
        if stream.max_age_s * stream.rate_hz < 1:
            problems.append(
                f"{where}.max_age_s: {stream.max_age_s:g} s is less than the period at {stream.rate_hz:g} Hz"
            )
    return problems


def _shared(key: str, what: str, pairs: list[tuple[str, object]]) -> list[str]:
    owners: dict[object, str] = {}
    return [
        f"{key}.{name}: has the same {what} as '{owners[value]}'"
        for name, value in pairs
        if owners.setdefault(value, name) != name
    ]


def _twice(names: list[str]) -> list[str]:
    return sorted({n for n in names if names.count(n) > 1})


def _references(rig: Rig):
    for c in rig.state:
        yield f"state.{c.name}", c
    for c in rig.action:
        yield f"action.{c.name}", c
        for part in ("feedback", "leader"):
            if getattr(c, part) is not None:
                yield f"action.{c.name}.{part}", getattr(c, part)
