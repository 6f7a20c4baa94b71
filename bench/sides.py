"""The two that are measured: ours and the naive model, each with three ways in.

predict   camera frames on the host to a chunk on the host
model     images on the device, resized, to a chunk there
head      hidden states of all layers and a state on the device to a chunk there
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bench.naive_vla.images import pixels, resized
from bench.naive_vla.policy import NaiveVLAPolicy
from vla_model.checkpoint import Checkpoint
from vla_model.fast.graphs import PROMPT_STEP, Graph
from vla_model.fast.head import FastHead
from vla_model.fast.model import FastModel
from vla_model.policy import Observation, Policy
from vla_model.tokenizer import encode_prompt


class Theirs:
    def __init__(self, checkpoint: Checkpoint, seen: Observation):
        self.policy, self.seen = NaiveVLAPolicy(checkpoint), seen
        self._inputs = _Inputs(checkpoint, seen, checkpoint.model.device)

    def predict(self) -> np.ndarray:
        return self.policy.predict(self.seen)

    @torch.inference_mode()
    def model(self) -> Tensor:
        return self.policy.model(self._pixels, self._inputs.ids, self._inputs.state)

    @torch.inference_mode()
    def head(self) -> Tensor:
        return self.policy.model.head(self._states, self._inputs.state)

    @cached_property
    def _pixels(self) -> Tensor:
        images = [pixels(frame, self.policy.config.vision)[None] for frame in self._inputs.frames]
        return torch.cat(images, dim=1).to(self._inputs.state)

    @cached_property
    def _states(self) -> Tensor:
        return self.policy.model.states(self._pixels, self._inputs.ids)


class Ours:
    """As Policy.from_checkpoint places things: the plain model in the host's memory, the fast one on the device.

    On CUDA, model and head are recorded as one graph each, as Policy records all of predict.
    """

    def __init__(self, checkpoint: Checkpoint, seen: Observation):
        self.device, self.seen = checkpoint.model.device, seen
        self._inputs = _Inputs(checkpoint, seen, self.device)
        self._plain = checkpoint.model.to("cpu")
        self.policy = Policy(checkpoint, "bench", device=self.device)

    def predict(self) -> np.ndarray:
        return self.policy.predict(self.seen)

    @cached_property
    @torch.inference_mode()
    def model(self) -> Callable[[], Tensor]:
        frames = [torch.tensor(frame).permute(2, 0, 1) for frame in self._inputs.frames]
        images, (fast, sequence) = torch.stack(frames).to(self.device), self._fast
        return self._recorded(lambda: fast.run(images, sequence, self._inputs.state))

    @cached_property
    @torch.inference_mode()
    def head(self) -> Callable[[], Tensor]:
        self.model()  # leaves its hidden states in the sequence
        sequence, state = self._fast[1], self._inputs.state
        projector = deepcopy(self._plain.head.proprio_projector).to(self.device)
        head = FastHead(self._plain.head, self._plain.config, self.device, state.dtype)

        def run() -> Tensor:
            sequence.state_token.copy_(projector(state)[0])
            return head(*sequence.read())

        return self._recorded(run)

    @cached_property
    def _fast(self):
        fast = FastModel(self._plain, self.device)
        prompt = fast.prompt(self._inputs.ids[0], PROMPT_STEP if self.device.type == "cuda" else 1)
        sequence = fast.sequence(prompt.length)
        sequence.use(prompt)
        return fast, sequence

    def _recorded(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        if self.device.type == "cuda":
            return Graph(function, self.device)
        return torch.inference_mode()(function)


class _Inputs:
    """What both models are given behind preprocessing, on the device."""

    def __init__(self, checkpoint: Checkpoint, seen: Observation, device: torch.device):
        config, dtype = checkpoint.model.config, checkpoint.model.backbone.action_queries.weight.dtype
        self.frames = [resized(seen.images[name], config.vision) for name in config.camera_names]
        self.ids = torch.tensor([encode_prompt(checkpoint.tokenizer, seen.instruction)], device=device)
        # the cases' statistics are bounds of [-1, 1], and so are their states
        self.state = torch.from_numpy(np.asarray(seen.state, np.float32))[None].to(device, dtype)
