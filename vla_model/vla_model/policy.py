"""Policy: an observation in the rig's units in, a chunk of actions in the rig's units out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from vla_model import checkpoint as checkpoints
from vla_model.adapter import VLAAdapter
from vla_model.checkpoint import Checkpoint, CheckpointError
from vla_model.config import ModelConfig
from vla_model.fast.graphs import GraphRunner
from vla_model.fast.model import FastModel
from vla_model.fast.runner import DirectRunner, PlainRunner, Runner
from vla_model.normalize import normalizers
from vla_model.observation import Observation, ObservationError, checked_frames, checked_state
from vla_model.released import Options
from vla_model.tokenizer import build_tokenizer, encode_prompt


class Policy:
    """A model ready to act. Threads may share one; their calls follow one another.

    It runs the fast form of the model (fast/), made from the weights as they are at the first `predict`: after
    training, make a new Policy. On CUDA the fast form lives on the GPU (published size, bfloat16, 3 cameras: 2.9 GB)
    and `model`, as `from_checkpoint` loads it, in the host's memory, where `save` takes it from; on a CPU both are
    there, sharing what folding leaves alone.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        identity: str,
        fast: bool = True,
        device: torch.device | str | None = None,
    ):
        """`device`: where to predict, by default where the model is. `fast=False`: by the plain model, there."""
        self.checkpoint = checkpoint
        self.identity = identity
        self.model = checkpoint.model.eval()
        self.device = torch.device(device or self.model.device)
        config = self.config = self.model.config
        self.rig_text = checkpoint.rig_text
        self.state_normalizer, self.action_normalizer = normalizers(checkpoint.statistics, config)
        self._fast, self._lock = fast, threading.Lock()
        self._runner: Runner | None = None
        self._prompt: Callable[[str], Any] | None = None
        self._each = map
        if config.vision.jpeg_quality is not None and len(self.camera_names) > 1:
            self._each = ThreadPoolExecutor(len(self.camera_names), "jpeg").map  # 1 to 2 ms a camera

    @classmethod
    def from_checkpoint(
        cls,
        directory: Path | str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        options: Options | None = None,
        fast: bool = True,
    ) -> Policy:
        """Load a checkpoint directory, by default for a GPU in bfloat16 if there is one, else in float32.

        `options` say what a folder as VLA-Adapter releases it leaves open, unless its vla_policy.json does.
        CheckpointError or StatisticsError, both ValueError, name what is missing or does not fit.
        """
        device = _present(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        checkpoint = checkpoints.load(directory, "cpu" if fast else device, dtype, options)
        return cls(checkpoint, checkpoints.identity(directory), fast, device)

    @property
    def dt_s(self) -> float:
        return self.config.dt_s

    @property
    def horizon(self) -> int:
        return self.config.horizon

    @property
    def camera_names(self) -> tuple[str, ...]:
        return self.config.camera_names

    @torch.inference_mode()
    def predict(self, observation: Observation) -> np.ndarray:
        """A chunk (H, A) float32 in the rig's units, for times stamp + k dt_s. Raises ObservationError."""
        frames = list(self._each(self.model.preprocess.jpeg, checked_frames(observation, self.config)))
        state = self.state_normalizer.normalize(checked_state(observation, self.config))
        with self._lock:
            if self._runner is None:
                self._runner = self._make_runner()
                # a cache that knew the policy would keep it, and its memory on the GPU, beyond its last user
                self._prompt = lru_cache(maxsize=64)(
                    partial(_encode, self.checkpoint.tokenizer, self._runner)
                )
            chunk = self._runner(frames, self._prompt(observation.instruction), state)
        return self.action_normalizer.denormalize(chunk)

    def warm_up(
        self,
        calls: int = 2,
        image_size: tuple[int, int] | Mapping[str, tuple[int, int]] = (480, 640),
        instruction: str = "wait",
    ) -> None:
        """Predict on black images, so that the first real call finds memory, kernels and CUDA graphs ready.

        Graphs are for images of these sizes (H, W), of all cameras or by name, and for instructions of up to 27
        tokens, or as long as this one. CheckpointError when what comes out is not finite.
        """
        sizes = (
            image_size if isinstance(image_size, Mapping) else dict.fromkeys(self.camera_names, image_size)
        )
        black = {name: np.zeros((*sizes[name], 3), np.uint8) for name in self.camera_names}
        state = np.zeros(self.config.state_dim, np.float32)
        for _ in range(calls):
            chunk = self.predict(Observation(black, state, instruction, 0))
            if not np.isfinite(chunk).all():
                raise CheckpointError(
                    f"{self.identity} predicts values that are not finite, even from black images: its weights are "
                    "damaged, or its training diverged"
                )

    def save(self, directory: Path | str) -> None:
        """Write the checkpoint directory that `from_checkpoint` reads."""
        checkpoints.save(directory, self.checkpoint)

    def _make_runner(self) -> Runner:
        if not self._fast:
            return PlainRunner(self.model.to(self.device))
        runner = GraphRunner if self.device.type == "cuda" else DirectRunner
        return runner(FastModel(self.model, self.device), self.model.preprocess)


def _encode(tokenizer: Tokenizer, runner: Runner, instruction: str) -> Any:
    """The instruction as the runner wants it."""
    try:
        return runner.prompt(torch.tensor(encode_prompt(tokenizer, instruction)))
    except ValueError as error:
        raise ObservationError(str(error)) from None


def _present(device: torch.device | str) -> torch.device:
    """CheckpointError when this machine has no such device."""
    try:
        device = torch.device(device)
    except RuntimeError:
        raise CheckpointError(f"'{device}' is no device; expected cpu, cuda, cuda:1 or the like") from None
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise CheckpointError(f"no model can run on {device}: CUDA devices found here: {found}")
    return device


def build_policy(
    config: ModelConfig,
    statistics: dict,
    rig_text: str,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    fast: bool = True,
) -> Policy:
    """A fresh model, its random weights given by `seed`; without a tokenizer one is built for the prompt."""
    tokenizer = tokenizer or build_tokenizer(vocab=config.llm.vocab)
    checkpoints.check_vocabulary(config, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VLAAdapter(config)
    checkpoint = Checkpoint(model.to(device), statistics, rig_text, tokenizer)
    return Policy(checkpoint, f"untrained-{seed}", fast)
