"""What carries a Policy's checked input to a model and the chunk back: by the plain model, or directly by the fast one.

On a GPU the fast model is run by graphs.GraphRunner. None of them is for two threads at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Several
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vla_model.adapter import VLAAdapter
from vla_model.fast.model import FastModel
from vla_model.fast.sequence import Prompt, Sequence
from vla_model.preprocess import Preprocessor

KEPT = 4


class Runner(Protocol):
    def prompt(self, ids: Tensor) -> Any:
        """Ids (L,) as this runner wants them, to be kept for as long as the instruction is used."""

    def __call__(self, frames: Several[np.ndarray], prompt: Any, state: np.ndarray) -> np.ndarray:
        """Frames (H, W, 3) uint8, cameras in order, and a normalised state (S,) to a normalised chunk (H, A)."""


class PlainRunner:
    """By VLAAdapter as it is trained."""

    def __init__(self, model: VLAAdapter):
        self._model = model

    def prompt(self, ids: Tensor) -> Tensor:
        return ids.to(self._model.device).unsqueeze(0)

    def __call__(self, frames: Several[np.ndarray], prompt: Tensor, state: np.ndarray) -> np.ndarray:
        model = self._model
        images = resized(frames, model.preprocess, model.device).unsqueeze(0)
        features = model.backbone(model.preprocess.normalize(images), prompt)
        state = torch.from_numpy(state).to(model.device).unsqueeze(0)
        return model.head.sample(features, state)[0].float().cpu().numpy()


class DirectRunner:
    """By FastModel, operation by operation."""

    def __init__(self, model: FastModel, preprocess: Preprocessor):
        self._model, self._preprocess = model, preprocess
        self._sequences: OrderedDict[int, Sequence] = OrderedDict()

    def prompt(self, ids: Tensor) -> Prompt:
        return self._model.prompt(ids)

    def __call__(self, frames: Several[np.ndarray], prompt: Prompt, state: np.ndarray) -> np.ndarray:
        images = resized(frames, self._preprocess, self._model.device)
        state = torch.from_numpy(state).to(self._model.device).unsqueeze(0)
        return self._model.run(images, self._sequence(prompt), state)[0].cpu().numpy()

    def _sequence(self, prompt: Prompt) -> Sequence:
        """Memory for a prompt of this length; of a few lengths."""
        if prompt.length not in self._sequences:
            if len(self._sequences) == KEPT:
                self._sequences.popitem(last=False)
            self._sequences[prompt.length] = self._model.sequence(prompt.length)
        self._sequences.move_to_end(prompt.length)
        sequence = self._sequences[prompt.length]
        sequence.use(prompt)
        return sequence


def resized(frames: Several[np.ndarray], preprocess: Preprocessor, device: torch.device) -> Tensor:
    """uint8 (N, 3, s, s). One by one, without the copy that a batch would need first; on a CPU both take as long."""
    images = (torch.from_numpy(np.require(frame, requirements="CW")) for frame in frames)
    return torch.cat([preprocess.resize(image.to(device).unsqueeze(0)) for image in images])
