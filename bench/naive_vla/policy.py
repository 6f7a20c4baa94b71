"""The naive way from an observation to a chunk in the rig's units (openvla_utils.get_vla_action)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.naive_vla.images import pixels, resized
from bench.naive_vla.weights import naive_of
from vla_model.checkpoint import Checkpoint
from vla_model.normalize import normalizers
from vla_model.policy import Observation
from vla_model.tokenizer import encode_prompt


class NaiveVLAPolicy:
    """`predict` as `Policy.predict`, with the same weights, for L1 and dual-arm heads."""

    def __init__(self, checkpoint: Checkpoint):
        config = self.config = checkpoint.model.config
        self.tokenizer = checkpoint.tokenizer
        self.model = naive_of(checkpoint.model)
        self.state_normalizer, self.action_normalizer = normalizers(checkpoint.statistics, config)

    @torch.inference_mode()
    def predict(self, observation: Observation) -> np.ndarray:
        """A chunk (H, A) float32 in the rig's units."""
        frames = [resized(observation.images[name], self.config.vision) for name in self.config.camera_names]
        state = self.state_normalizer.normalize(np.asarray(observation.state))
        chunk = self.chunk(frames, observation.instruction, state)
        return self.action_normalizer.denormalize(chunk[0].float().cpu().numpy())

    @torch.inference_mode()
    def chunk(self, frames: list[np.ndarray], instruction: str, state: np.ndarray) -> Tensor:
        """Resized frames (s, s, 3) and a normalised state (S,) to the head's output (1, H, A)."""
        like = self.model.action_queries.weight
        values = []
        for frame in frames:  # the processor makes ids and pixels of every image, and uploads both
            ids = torch.tensor([encode_prompt(self.tokenizer, instruction)]).to(like.device)
            values.append(pixels(frame, self.config.vision)[None].to(like.device, like.dtype))
        proprio = torch.Tensor(state).to(like.device, like.dtype).reshape(1, -1)
        return self.model(torch.cat(values, dim=1), ids, proprio)
