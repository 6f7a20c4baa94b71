"""The parameters of the recorder node."""

from __future__ import annotations

from rclpy.node import Node

from vla_recorder.episode.layout import ACTION_SOURCES, IMAGE_FORMS, JPEG_COLOURS
from vla_recorder.streams import HISTORY_S
from vla_rig.nodes import UserError, describe

MAX_COUNTDOWN_S = 60.0
_CHOICES = {"action_from": ACTION_SOURCES, "image_form": IMAGE_FORMS, "jpeg_colour": JPEG_COLOURS}


def declare_parameters(node: Node) -> None:
    """Declare all of them with descriptions and ranges. Raises UserError for a value that cannot be."""

    def fixed(name, default, text, *limits):
        node.declare_parameter(name, default, describe(text, *limits, read_only=True))

    def per_episode(name, default, text, *limits):
        text += " Read at the start of each episode."
        node.declare_parameter(name, default, describe(text, *limits))

    fixed("rig", "aloha", "Rig file: a path or the name of an installed rig.")
    fixed(
        "action_from", "command", "What /action holds: 'command' (requested of the gate) or 'leader' (arms)."
    )
    fixed("settle_s", 0.1, "How long a row waits for its messages, s of node time.", 0.0, HISTORY_S / 2)
    fixed("image_form", "raw", "How frames are stored: 'raw', or 'jpeg' (about a tenth of the size).")
    fixed("jpeg_quality", 95, "Quality of JPEG frames.", 1, 100)
    fixed(
        "jpeg_colour",
        "act",
        "Channel order of JPEG frames: 'act' (as the ACT family's loaders expect it) or 'standard' (as viewers do).",
    )
    fixed(
        "start_gesture", False, "Start an episode when all leader grippers, open before, are closed and held."
    )
    fixed("gesture_hold_s", 0.5, "How long the grippers must be held closed, s.", 0.1, 5.0)
    per_episode("folder", "episodes", "Where episodes go; made when missing.")
    per_episode(
        "instruction",
        "",
        "Task text of episodes that are started without one; empty: that of the one before.",
    )
    per_episode(
        "substeps",
        [""],
        "Texts of the sub-steps that a key steps through; the first is in force at the start.",
    )
    per_episode(
        "countdown_s",
        3.0,
        "Time between a key, or ~/next and ~/redo, and the first row, s.",
        0.0,
        MAX_COUNTDOWN_S,
    )
    per_episode("sim", False, "Episode attribute 'sim': true only for a simulated rig.")
    per_episode("max_rows", 0, "End and save an episode at this length; 0: no limit.", 0, 1 << 31)
    per_episode("queue_rows", 100, "Rows held in memory while the disk is busy.", 2, 100_000)
    for name, choices in _CHOICES.items():
        value = node.get_parameter(name).value
        if value not in choices:
            wanted = " or ".join(f"'{choice}'" for choice in choices)
            raise UserError(f"parameter {name} must be {wanted}, got '{value}'")
