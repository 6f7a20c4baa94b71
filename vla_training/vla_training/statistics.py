"""dataset_statistics.json of a set of episodes: what normalises states and actions."""

from __future__ import annotations

import numpy as np

from vla_model.grippers import Grippers
from vla_model.normalize import describe
from vla_training.episodes import EpisodeSet, TrainingError


def dataset_statistics(data: EpisodeSet, name: str, grippers: Grippers | None = None) -> dict:
    """Statistics over every finite row, in the layout of vla_model.normalize: one entry, `name`.

    Of actions as the model is trained on them: grippers of a convention are converted first, and their mask is
    False, as in released statistics.

    {name: {"proprio": {mean, std, min, max, q01, q99, mask}, "action": {...}, num_transitions, num_trajectories}},
    each list in the order of the rig's channels. Raises TrainingError when there is no finite row.
    """
    state = np.concatenate([e.state[np.isfinite(e.state).all(axis=1)] for e in data.episodes])
    grippers = grippers or Grippers()
    action = grippers.encode(np.concatenate([e.action[e.commanded] for e in data.episodes]))
    for what, values in (("state", state), ("action", action)):
        if not len(values):
            raise TrainingError(
                f"no episode has a row with a finite {what}; check the recording with `vla check`"
            )
    entry = {
        "action": {**describe(action), "mask": [i not in grippers.dims for i in range(action.shape[1])]},
        "proprio": {**describe(state), "mask": [True] * state.shape[1]},
        "num_transitions": len(action),
        "num_trajectories": len(data.episodes),
    }
    return {name: entry}
