"""The sub-commands of `episode`, one file each."""

from vla_recorder.tools.commands import (
    convert,
    inspect,
    merge,
    recover,
    renumber,
    replay,
    validate,
    video,
)

COMMANDS = (
    inspect.COMMAND,
    video.COMMAND,
    validate.COMMAND,
    replay.COMMAND,
    convert.COMMAND,
    recover.COMMAND,
    merge.COMMAND,
    renumber.COMMAND,
)
