"""The parameters of the recorder node."""

from __future__ import annotations

from rclpy.node import Node

from vla_recorder.episode.layout import ACTION_SOURCES
from vla_rig.nodes import UserError, describe

HISTORY_S = 1.0  # how far back rows can be taken when the row thread was held up


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
    per_episode("folder", "episodes", "Where episodes go; made when missing.")
    per_episode("instruction", "", "Task text of episodes that are started without one.")
    per_episode("sim", False, "Episode attribute 'sim': true only for a simulated rig.")
    per_episode("max_rows", 0, "End and save an episode at this length; 0: no limit.", 0, 1 << 31)
    per_episode("queue_rows", 100, "Rows held in memory while the disk is busy.", 2, 100_000)
    action_from = node.get_parameter("action_from").value
    if action_from not in ACTION_SOURCES:
        wanted = " or ".join(f"'{source}'" for source in ACTION_SOURCES)
        raise UserError(f"parameter action_from must be {wanted}, got '{action_from}'")
