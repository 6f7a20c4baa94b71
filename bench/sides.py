"""The two that are measured: ours and the naive model, with three ways in: a whole predict, the model, the head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.naive_vla.images import pixels, resized
from bench.naive_vla.policy import NaiveVLAPolicy
from vla_model.checkpoint import Checkpoint
from vla_model.policy import Observation, Policy
from vla_model.tokenizer import encode_prompt


class Theirs:
    """`predict`: frames on the host to a chunk on the host. `model`: pixels on the device to a chunk there."""

    def __init__(self, checkpoint: Checkpoint, seen: Observation):
        self.policy, self.seen = NaiveVLAPolicy(checkpoint), seen
        like = self.policy.model.action_queries.weight
        vision, names = checkpoint.model.config.vision, checkpoint.model.config.camera_names
        images = [pixels(resized(seen.images[name], vision), vision)[None] for name in names]
        self.pixels = torch.cat(images, dim=1).to(like.device, like.dtype)
        self.ids, self.state = (
            _ids(checkpoint, seen).to(like.device),
            _state(seen).to(like.device, like.dtype),
        )
        with torch.inference_mode():
            self.states = self.policy.model.states(self.pixels, self.ids)

    def predict(self) -> np.ndarray:
        return self.policy.predict(self.seen)

    @torch.inference_mode()
    def model(self) -> Tensor:
        return self.policy.model(self.pixels, self.ids, self.state)

    @torch.inference_mode()
    def head(self) -> Tensor:
        return self.policy.model.head(self.states, self.state)


class Ours:
    """The same. `model`: resized frames on the device to a chunk there."""

    def __init__(self, checkpoint: Checkpoint, seen: Observation):
        self.policy, self.seen = Policy(checkpoint, "bench"), seen
        model = self.plain = checkpoint.model
        like = model.backbone.action_queries.weight
        vision, names = checkpoint.model.config.vision, checkpoint.model.config.camera_names
        images = [torch.tensor(resized(seen.images[name], vision)).permute(2, 0, 1) for name in names]
        self.images = torch.stack(images).to(like.device)
        self.ids, self.state = (
            _ids(checkpoint, seen).to(like.device),
            _state(seen).to(like.device, like.dtype),
        )
        with torch.inference_mode():
            self.features = self._features()

    def predict(self) -> np.ndarray:
        return self.policy.predict(self.seen)

    @torch.inference_mode()
    def model(self) -> Tensor:
        return self.plain.head.sample(self._features(), self.state)

    @torch.inference_mode()
    def head(self) -> Tensor:
        return self.plain.head.sample(self.features, self.state)

    def _features(self):
        pixels = self.plain.preprocess.normalize(self.images[None])
        return self.plain.backbone(tuple(p.to(self.state.dtype) for p in pixels), self.ids)


def _ids(checkpoint: Checkpoint, seen: Observation) -> Tensor:
    return torch.tensor([encode_prompt(checkpoint.tokenizer, seen.instruction)])


def _state(seen: Observation) -> Tensor:
    """Statistics of cases are bounds of [-1, 1], and so are the states seen."""
    return torch.from_numpy(np.asarray(seen.state, np.float32))[None]
