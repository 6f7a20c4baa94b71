"""Rows of an episode -> the messages that the rig's cameras and joint sources would have published."""

from __future__ import annotations

import array
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_recorder.episode import images
from vla_recorder.episode.layout import NO_STAMP, EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_rig.rig import Rig

_JPEG_QUALITY = 95


@dataclass(frozen=True, order=True)
class Event:
    """A message that the rows used: when it was stamped, of which stream, first used by which row."""

    stamp_ns: int
    stream: str
    row: int


def events(episode: EpisodeReader, streams: list[str], row_s: float) -> list[Event]:
    """Every message of the streams that rows used, by stamp. A file without stamps has one of each per row."""
    if episode.stream_stamps_ns is None:
        return [Event(round(1e9 * t * row_s), name, t) for t in range(len(episode)) for name in streams]
    found = []
    for name in streams:
        stamps_ns = episode.stream_stamps_ns[:, episode.stream_names.index(name)]
        new = np.diff(stamps_ns, prepend=NO_STAMP) != 0
        found += [
            Event(int(stamps_ns[t]), name, int(t)) for t in np.flatnonzero(new & (stamps_ns != NO_STAMP))
        ]
    return sorted(found)


class CameraMessages:
    """Frames of one camera, in the form that the rig file says."""

    def __init__(self, episode: EpisodeReader, rig: Rig, name: str) -> None:
        """Raises EpisodeError when the frames are not of the size that the rig file says."""
        self._episode, self._camera, self._name = episode, rig.cameras[name], name
        self._frames = episode.images(name)
        self.compressed = self._camera.message == "compressed"
        self.kind = CompressedImage if self.compressed else Image
        size = self._frames.shape[1:3]
        if size != (self._camera.height, self._camera.width):
            expected = f"the rig file says {self._camera.width}x{self._camera.height}"
            raise EpisodeError(f"{episode.path}: {name} is {size[1]}x{size[0]}, {expected}")

    def message(self, t: int, stamp: Time) -> Image | CompressedImage:
        """The frame of row t."""
        message = self._compressed(t) if self.compressed else self._raw(t)
        message.header.stamp, message.header.frame_id = stamp.to_msg(), f"{self._name}_optical_frame"
        return message

    def _raw(self, t: int) -> Image:
        frame, encoding = self._frames[t], "rgb8"
        if self._camera.encoding == "bgr8":
            frame, encoding = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), "bgr8"
        height, width = frame.shape[:2]
        message = Image(height=height, width=width, encoding=encoding, step=3 * width)
        message.data = array.array("B", frame.tobytes())
        return message

    def _compressed(self, t: int) -> CompressedImage:
        if self._episode.image_form == "jpeg" and self._episode.jpeg_colour == "standard":
            encoded = self._episode.encoded(self._name, t)
        else:
            encoded = images.encode(self._frames[t], _JPEG_QUALITY, "standard")
        return CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", encoded))


class JointMessages:
    """Joint states of one source, out of qpos, qvel and effort in the raw units of the driver.

    Joints that the state does not hold but a command's feedback needs (ALOHA: the gripper motor) get the position
    that the state column of the command's name gives them. Joints of which nothing is known are left out.
    """

    kind = JointState

    def __init__(self, episode: EpisodeReader, rig: Rig, source: str) -> None:
        T = len(episode)
        qpos, qvel, effort = (d[:T].astype(float) for d in (episode.qpos, episode.qvel, episode.effort))
        columns: dict[str, dict[str, np.ndarray]] = {"position": {}, "velocity": {}, "effort": {}}
        for i, channel in enumerate(rig.state):
            if channel.source == source:
                offset, gain = rig.scale(channel.range)
                shift = offset if channel.quantity == "position" else 0.0
                columns["velocity"].setdefault(channel.joint, qvel[:, i] / gain)
                columns["effort"].setdefault(channel.effort_joint or channel.joint, effort[:, i])
                columns[channel.quantity][channel.joint] = shift + qpos[:, i] / gain
        for channel in rig.action:
            feedback = channel.feedback
            if feedback and feedback.source == source and channel.name in rig.state_names:
                offset, gain = rig.scale(feedback.range)
                value = offset + qpos[:, rig.state_names.index(channel.name)] / gain
                columns["position"].setdefault(feedback.joint, value)
        known = {joint for quantity in columns.values() for joint in quantity}
        self.joints = [joint for joint in rig.joint_sources[source].joints if joint in known]
        unknown = np.full(T, math.nan)
        self._values = {
            quantity: np.stack([of.get(joint, unknown) for joint in self.joints], axis=1)
            for quantity, of in columns.items()
        }

    def message(self, t: int, stamp: Time) -> JointState | None:
        """The joints of row t; None where the row has no position of any of them (the source was stale)."""
        values = {name: column[t] for name, column in self._values.items()}
        if np.isnan(values["position"]).all():
            return None
        message = JointState(name=self.joints)
        message.header.stamp = stamp.to_msg()
        for name, numbers in values.items():
            if not np.isnan(numbers).all():  # a quantity that the driver did not publish
                setattr(message, name, numbers.tolist())
        return message


def stream_messages(
    episode: EpisodeReader, rig: Rig
) -> Iterator[tuple[str, str, CameraMessages | JointMessages]]:
    """(stream, topic, messages) of everything that the state and the cameras of the rig need and the file has.

    Raises EpisodeError when the file's state is not the rig's.
    """
    recorded = list(episode.attributes.get("state_names", rig.state_names))
    if recorded != rig.state_names or episode.qpos.shape[1] != len(rig.state):
        raise EpisodeError(
            f"{episode.path}: its state is {', '.join(episode.state_names)}; that of rig '{rig.name}' is "
            f"{', '.join(rig.state_names)}"
        )
    for name, camera in rig.cameras.items():
        if name in episode.camera_names:
            yield name, camera.topic, CameraMessages(episode, rig, name)
    for name in dict.fromkeys(channel.source for channel in rig.state):
        yield name, rig.joint_sources[name].topic, JointMessages(episode, rig, name)
