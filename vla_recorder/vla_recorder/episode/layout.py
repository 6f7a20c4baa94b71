"""Where everything lies in an episode file: the only place that names paths, dtypes and attributes.

    episode_{i}.hdf5                        T rows on the rig's time grid, A actions, S states, N streams, C cameras
    attrs: sim (bool), compress (bool: true for JPEG, else absent)     read by the ACT family of loaders, see below
    /action                       (T, A) f4 the action requested for the observation of the same row
    /observations/qpos|qvel|effort (T, S) f4
    /observations/images/<cam>    raw:  (T, H, W, 3) u1, RGB, one chunk per frame
                                  JPEG: (T, P) u1, a row is the bytes of one JPEG, then zeros; attrs: height, width
    /compress_len                 (C, T) f4, JPEG only: bytes without the zeros; cameras in alphabetical order
    /language_raw                 (1,)  vlen UTF-8, the instruction
    /substep_reasonings           (T,)  vlen UTF-8, what is being done: a sub-step, or the instruction again
    /vla                                    ours; those loaders ignore it. attrs: see `EpisodeHeader`, and
                                            colour_order, end_reason, label, ended, quality (JSON)
    /vla/rig                      ()    vlen UTF-8, the resolved rig file
    /vla/stamp_ns                 (T,)  i8  grid time of the row (node clock)
    /vla/command                  (T, A) f4 the action after the command gate, as sent
    /vla/command_source           (T,)  enum: who commanded
    /vla/leader                   (T, A) f4 the leader arms as read; only where they are recorded beside the action
    /vla/interventions            (T,)  vlen UTF-8, what the gate changed, "; " between entries
    /vla/streams                            attrs: names, topics (N)
    /vla/streams/stamp_ns         (T, N) i8 stamp of the message used; NO_STAMP where there was none
    /vla/streams/age_s            (T, N) f4 row stamp - message stamp; negative for a command, NaN where none
    /vla/streams/fresh            (T, N) bool: the message was young enough for the rig file
    /vla/streams/repeated         (T, N) bool: the row before used the same message

Missing data is never zeros: floats of a stale stream are NaN, an image is the last frame and not fresh.
Row t holds the observation at its grid time and the first action requested in [t, t + dt): the answer to it.

The attribute `sim` is more than a label: when it is false, the loaders of ACT, ACT++ and DexVLA pair the
observation of row t with actions from row t-1 on (utils.py, EpisodicDataset), one row early for our rows.
Write the honest value: true only for a simulated rig.

Colours of JPEG frames (attribute `jpeg_colour` of /vla). OpenCV's encoder takes arrays for BGR. "act", the default:
it is given RGB, as the ACT family does, so that cv2.imdecode gives RGB back, and other viewers show red and blue
swapped. "standard": an ordinary JPEG; cv2.imdecode gives BGR. ACT++ is right about "act", openpi's converter about
"standard"; ACT and DexVLA read raw files alone. A file that does not say is "act". docs/episodes.md has the table.

While an episode is written there are `episode_{i}.hdf5.partial`, and `episode_{i}.hdf5.journal` (journal.py),
which stays until the finished file is on the disk. Both together are the episode as of the last flush:
- a kill, a crash, or a disk that refuses loses what was not flushed (FLUSH_INTERVAL_S, a quarter of a second) and
  the rows still queued: less than a second, whatever it interrupts. A full disk loses nothing that was appended;
- a power cut, or a crash of the system, loses what was not synced: a sync begins a second after the last one ended,
  so two seconds and twice what a sync takes (0.1 s of JPEG, 0.3 s of raw frames on an SSD; longer on a slow disk). Up
  to that moment the file is whole. That holds for a file that was closed just now, too, until its journal is gone.
`recover` makes the episode of them. Neither is read rightly without the other: keep them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1: raw frames only, no quality, sub-steps equal the instruction
COLOUR_ORDER = "RGB"  # of frames as `EpisodeReader.images` gives them, whatever the form
NO_STAMP = np.iinfo(np.int64).min  # a message stamp that does not exist; 0 is a valid simulated time

SIM_ATTR = "sim"
COMPRESS_ATTR = "compress"
HEIGHT_ATTR, WIDTH_ATTR = "height", "width"  # of a JPEG dataset: the size of the decoded frames
ACTION = "/action"
QPOS = "/observations/qpos"
QVEL = "/observations/qvel"
EFFORT = "/observations/effort"
IMAGES = "/observations/images"
COMPRESS_LEN = "/compress_len"
LANGUAGE = "/language_raw"
REASONINGS = "/substep_reasonings"

VLA = "/vla"
RIG = "/vla/rig"
STAMP = "/vla/stamp_ns"
COMMAND = "/vla/command"
COMMAND_SOURCE = "/vla/command_source"
LEADER = "/vla/leader"
INTERVENTIONS = "/vla/interventions"
STREAMS = "/vla/streams"
STREAM_STAMP = "/vla/streams/stamp_ns"
STREAM_AGE = "/vla/streams/age_s"
STREAM_FRESH = "/vla/streams/fresh"
STREAM_REPEATED = "/vla/streams/repeated"

IMAGE_FORMS = ("raw", "jpeg")
JPEG_COLOURS = ("act", "standard")  # see "Colours of JPEG frames" above
LABELS = ("none", "success", "failure")  # index = StopEpisode.LABEL_*
ACTION_SOURCES = ("command", "leader")  # what /action holds
COMMAND_SOURCES = {"none": 0, "teleop": 1, "policy": 2, "replay": 3, "other": 4}

TEXT = h5py.string_dtype("utf-8")
FLOAT = np.dtype("<f4")
STAMP_DTYPE = np.dtype("<i8")
SOURCE_DTYPE = h5py.enum_dtype(COMMAND_SOURCES, basetype="u1")

PARTIAL_SUFFIX = ".partial"
JOURNAL_SUFFIX = ".journal"
LOCK_NAME = ".recorder.lock"
TRASH = "trash"
TRASHED_SUFFIX = ".discarded"  # loaders that search folders for *.hdf5 must not find the trash
_NAME = re.compile(r"episode_(\d+)\.hdf5(?:\.partial)?")


class EpisodeError(Exception):
    """An episode file cannot be written or read; the text names the file and says what to do."""


@dataclass(frozen=True)
class EpisodeHeader:
    """What is known when an episode begins; becomes attributes of `/vla` (of `/vla/streams`: stream_*)."""

    state_names: list[str]  # (S)
    state_units: list[str]  # (S)
    action_names: list[str]  # (A)
    action_units: list[str]  # (A)
    cameras: dict[str, tuple[int, int]]  # name -> (height, width)
    stream_names: list[str]  # (N) cameras, joint sources, command
    stream_topics: list[str]  # (N)
    control_rate_hz: float  # rows per second of node time
    instruction: str
    sim: bool
    rig: str  # the resolved rig file, YAML
    action_from: str = "command"  # one of ACTION_SOURCES
    checkpoint: str = ""  # identity of the policy that commanded, if one did
    software: str = ""
    started: str = ""  # ISO 8601, wall clock
    image_form: str = "raw"  # one of IMAGE_FORMS
    jpeg_quality: int = 95  # 1 to 100
    jpeg_colour: str = "act"  # one of JPEG_COLOURS
    leader: bool = False  # rows have what the leaders said beside the action


@dataclass(slots=True)
class Row:
    """One row of an episode. They must not change until written.

    An image is (H, W, 3) uint8 RGB or, in the JPEG form, also the bytes that `images.encode` makes of it.
    """

    stamp_ns: int
    qpos: np.ndarray  # (S)
    qvel: np.ndarray  # (S)
    effort: np.ndarray  # (S)
    action: np.ndarray  # (A)
    command: np.ndarray  # (A)
    images: dict[str, np.ndarray | bytes]
    stream_stamps_ns: np.ndarray  # (N) int64, NO_STAMP where none
    fresh: np.ndarray  # (N) bool
    repeated: np.ndarray  # (N) bool
    command_source: str = "none"
    interventions: list[str] = field(default_factory=list)
    leader: np.ndarray | None = None  # (A) the leaders as read, where the header says so
    substep: str = ""  # what is being done now; empty: the instruction

    def ages_s(self) -> np.ndarray:
        """(N) float32: row stamp minus message stamp, NaN where there was no message."""
        ages = (self.stamp_ns - self.stream_stamps_ns.astype(np.float64)) * 1e-9
        return np.where(self.stream_stamps_ns == NO_STAMP, np.nan, ages).astype(FLOAT)


def image_path(camera: str) -> str:
    return f"{IMAGES}/{camera}"


def command_source_code(source: str) -> int:
    """The number that /vla/command_source stores for RigCommand.source."""
    return COMMAND_SOURCES.get(source, COMMAND_SOURCES["other"])


def float_paths(header: EpisodeHeader) -> dict[str, int]:
    """Path -> width of the (T, width) float datasets of every row."""
    S, A = len(header.state_names), len(header.action_names)
    widths = {ACTION: A, QPOS: S, QVEL: S, EFFORT: S, COMMAND: A, STREAM_AGE: len(header.stream_names)}
    return widths | ({LEADER: A} if header.leader else {})


def episode_path(folder: Path, index: int) -> Path:
    return folder / f"episode_{index}.hdf5"


def partial_path(folder: Path, index: int) -> Path:
    return folder / f"episode_{index}.hdf5{PARTIAL_SUFFIX}"


def journal_path(folder: Path, index: int) -> Path:
    """The journal of an episode that is being written, or is not yet known to be on the disk."""
    return folder / f"episode_{index}.hdf5{JOURNAL_SUFFIX}"


def index_of(path: Path) -> int | None:
    """The episode index a file name carries, or None when it is not an episode's name."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None
