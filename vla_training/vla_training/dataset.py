"""Training items: the observation of a row, and the chunk of actions that followed it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

from vla_model.normalize import Normalizer
from vla_model.tokenizer import encode_batch
from vla_training.cache import ImageCache
from vla_training.episodes import EpisodeSet, Rows, TrainingError


class ChunkDataset(Dataset):
    """Item i: one usable row of one episode. Batches are what VLAAdapter.loss takes.

    A row is usable when it was observed (state finite, cameras and joints fresh) and at least one action of
    its chunk is known.
    """

    def __init__(
        self,
        data: EpisodeSet,
        images: ImageCache,
        tokenizer: Tokenizer,
        state_normalizer: Normalizer,
        action_normalizer: Normalizer,
        horizon: int,
    ):
        self.data, self.horizon = data, horizon
        self._images, self._tokenizer = images, tokenizer
        self._state, self._action = state_normalizer, action_normalizer
        self.index = usable_rows(data, horizon)
        if not len(self.index):
            stale = f"{data.left_out} of {data.rows} rows are stale or not finite"
            raise TrainingError(f"no usable row in {len(data.episodes)} episodes: {stale}")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([item]).items()}

    def images(self, items: Sequence[int]) -> np.ndarray:
        """(B, N, 3, s, s) uint8."""
        out = self._images.empty(len(items))
        for i, (episode, row) in enumerate(self.index[items]):
            self._images.images(episode, row, out[i])
        return out

    def targets(self, items: Sequence[int]) -> dict[str, Tensor]:
        """State (B, S) and actions (B, H, A), normalised; action_mask (B, H), 1 = valid."""
        pairs = self.index[items]
        actions, masks = zip(
            *(chunk(self.data.episodes[e], row, self.horizon) for e, row in pairs), strict=True
        )
        state = np.stack([self.data.episodes[e].state[row] for e, row in pairs])
        return {
            "state": torch.from_numpy(self._state.normalize(state)),
            "actions": torch.from_numpy(self._action.normalize(np.stack(actions))),
            "action_mask": torch.from_numpy(np.stack(masks).astype(np.float32)),
        }

    def prompts(self, items: Sequence[int]) -> dict[str, Tensor]:
        """input_ids (B, L), and attention_mask (B, L) when prompts differ in length."""
        ids, mask = encode_batch(
            self._tokenizer, [self.data.episodes[e].instruction for e, _ in self.index[items]]
        )
        return {"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}

    def __getitems__(self, items: Sequence[int]) -> dict[str, Tensor]:
        """A batch: images uint8 (B, N, 3, s, s), prompts and targets."""
        return {"images": torch.from_numpy(self.images(items)), **self.prompts(items), **self.targets(items)}


def usable_rows(data: EpisodeSet, horizon: int) -> np.ndarray:
    """(items, 2) int: episode and row of every item."""
    pairs = []
    for e, episode in enumerate(data.episodes):
        known = np.concatenate([[0], np.cumsum(episode.commanded)])
        ends = np.minimum(np.arange(len(episode)) + horizon, len(episode))
        rows = np.flatnonzero(episode.observed & (known[ends] > known[:-1]))
        pairs.append(np.stack([np.full_like(rows, e), rows], axis=1))
    return np.concatenate(pairs)


def chunk(episode: Rows, row: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions (H, A) for rows row .. row + H - 1 of this episode, and their mask (H,), True = valid.

    What lies past the end, and what is not known, repeats the last action that is (the first one, when none
    came before): padding that is finite and masked, never data.
    """
    stop = min(row + horizon, len(episode))
    mask = np.zeros(horizon, bool)
    mask[: stop - row] = episode.commanded[row:stop]
    if not mask.any():
        raise ValueError(f"{episode.path}: no known action in rows {row} to {stop - 1}")
    source = np.maximum.accumulate(np.where(mask, np.arange(horizon), -1))
    source = np.where(source < 0, np.argmax(mask), source)
    return episode.action[row + source], mask
