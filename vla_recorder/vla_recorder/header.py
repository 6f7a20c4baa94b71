"""What the header of an episode takes from the rig."""

from __future__ import annotations

from vla_recorder.episode.layout import EpisodeHeader
from vla_recorder.rows import RigRows
from vla_rig.rig import Rig


def episode_header(rig: Rig, rows: RigRows, **rest) -> EpisodeHeader:
    """`rest` are the fields that neither the rig nor the rows know: instruction, sim, action_from, ..."""
    return EpisodeHeader(
        state_names=rig.state_names,
        state_units=[channel.unit for channel in rig.state],
        action_names=rig.action_names,
        action_units=[channel.unit for channel in rig.action],
        cameras={name: (camera.height, camera.width) for name, camera in rig.cameras.items()},
        stream_names=rows.stream_names,
        stream_topics=rows.stream_topics,
        control_rate_hz=rig.control_rate_hz,
        rig=rig.to_yaml(),
        leader=rows.leader,
        **rest,
    )
