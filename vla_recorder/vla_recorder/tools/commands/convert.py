"""`episode convert`: other forms of an episode. One file for each conversion; register it in COMMANDS."""

from __future__ import annotations

from vla_recorder.tools.command import Command
from vla_recorder.tools.commands import convert_bag, convert_images, convert_lerobot

COMMAND = Command(
    "convert",
    "write episodes in another form, as new files",
    commands=(
        convert_images.TO_JPEG,
        convert_images.TO_RAW,
        convert_lerobot.TO_LEROBOT,
        convert_lerobot.FROM_LEROBOT,
        convert_bag.FROM_BAG,
    ),
)
