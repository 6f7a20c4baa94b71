"""Features of a backbone that does not change, computed once: training then costs the head alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vla_model.adapter import VLAAdapter
from vla_model.features import Features
from vla_training.dataset import ChunkDataset

LIMIT_BYTES = 2 << 30
_BATCH = 16


class FrozenChunks(Dataset):
    """A ChunkDataset whose batches hold features in place of images and prompts.

    task and query, each (B, layers + 1, K, D), are kept in memory; rows that show the same images (cameras are
    slower than joints) share theirs.
    """

    def __init__(self, model: VLAAdapter, data: ChunkDataset):
        self._data = data
        self._slots, shown = _same_images(data)
        with torch.no_grad():
            parts = [
                _features(model, data.__getitems__(shown[i : i + _BATCH]))
                for i in tqdm(
                    range(0, len(shown), _BATCH), desc="features of the frozen backbone", unit="batch"
                )
            ]
        self._task, self._query = (torch.cat(part) for part in zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self._data)

    def __getitems__(self, items: Sequence[int]) -> dict[str, Tensor]:
        slots = self._slots[items]
        return {"task": self._task[slots], "query": self._query[slots], **self._data.targets(items)}


def head_loss(model: VLAAdapter, batch: dict[str, Tensor]) -> dict:
    """What `VLAAdapter.loss` gives for the batch with images, of a FrozenChunks batch."""
    features = Features(task_layers=batch["task"].unbind(1), query_layers=batch["query"].unbind(1))
    result = model.head.loss(features, batch["actions"], batch["state"], batch["action_mask"])
    return {"loss": result.loss, "metrics": result.metrics}


def fits(model: VLAAdapter, data: ChunkDataset) -> bool:
    """Whether the features of all items stay below LIMIT_BYTES."""
    config = model.config
    tokens = config.task_tokens + config.query_tokens
    return len(data) * (config.llm.layers + 1) * tokens * config.llm.width * 4 < LIMIT_BYTES


def _features(model: VLAAdapter, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(B, layers + 1, K, D) of task and query tokens."""
    batch = {name: value.to(model.device) for name, value in batch.items()}
    pixels = model.preprocess.normalize(model.preprocess.crop(batch["images"]))
    features = model.backbone(pixels, batch["input_ids"], batch.get("attention_mask"))
    return torch.stack(features.task_layers, 1).cpu(), torch.stack(features.query_layers, 1).cpu()


def _same_images(data: ChunkDataset) -> tuple[Tensor, list[int]]:
    """For each item its slot, and for each slot the item that is computed."""
    slots, shown = [], []
    before = None
    for item in range(len(data)):
        images = data.images([item])
        episode = data.index[item, 0]
        if before is None or before[0] != episode or not np.array_equal(before[1], images):
            shown.append(item)
        slots.append(len(shown) - 1)
        before = (episode, images)
    return torch.tensor(slots), shown
