"""Policy: an observation in the rig's units in, a chunk of actions in the rig's units out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla_model import checkpoint as checkpoints
from vla_model.adapter import VLAAdapter
from vla_model.checkpoint import Checkpoint
from vla_model.config import ModelConfig
from vla_model.normalize import normalizers
from vla_model.released import Options
from vla_model.tokenizer import PromptEncoder, build_tokenizer


class ObservationError(ValueError):
    """An observation lacks a camera, or does not fit the model."""


@dataclass(frozen=True)
class Observation:
    """What the robot sees at one time."""

    images: dict[str, np.ndarray]  # camera name -> (H, W, 3) uint8 RGB; cameras may differ in size
    state: np.ndarray  # (S,) in the rig's units
    instruction: str
    stamp_ns: int


class Policy:
    """A model ready to act. Its weights stay as they are; after training, make a new Policy."""

    def __init__(self, checkpoint: Checkpoint, identity: str):
        self.checkpoint = checkpoint
        self.identity = identity
        self.model = checkpoint.model.eval()
        self.model.head.prepare()
        config = self.config = self.model.config
        self.rig_text = checkpoint.rig_text
        self.state_normalizer, self.action_normalizer = normalizers(checkpoint.statistics, config)
        self._prompt_ids = PromptEncoder(checkpoint.tokenizer, self.model.device)

    @classmethod
    def from_checkpoint(
        cls,
        directory: Path | str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        options: Options | None = None,
    ) -> Policy:
        """Load a checkpoint directory, by default onto a GPU in bfloat16 if there is one, else in float32.

        `options` say what a folder as VLA-Adapter releases it leaves open, unless its vla_policy.json does.
        CheckpointError or StatisticsError, both ValueError, name what is missing or does not fit.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        return cls(checkpoints.load(directory, device, dtype, options), checkpoints.identity(directory))

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
        images = self._images(observation)
        ids = self._prompt_ids(observation.instruction)
        state = torch.from_numpy(self._state(observation)).to(self.model.device).unsqueeze(0)
        features = self.model.backbone(self.model.preprocess.normalize(images), ids)
        chunk = self.model.head.sample(features, state)[0]
        return self.action_normalizer.denormalize(chunk.float().cpu().numpy())

    def warm_up(self, calls: int = 2, image_size: tuple[int, int] = (480, 640)) -> None:
        """Predict on black images (H, W), so that the first real call finds memory and kernels ready."""
        black = {name: np.zeros((*image_size, 3), np.uint8) for name in self.camera_names}
        state = np.zeros(self.config.state_dim, np.float32)
        for _ in range(calls):
            self.predict(Observation(black, state, "wait", 0))

    def save(self, directory: Path | str) -> None:
        """Write the checkpoint directory that `from_checkpoint` reads."""
        checkpoints.save(directory, self.checkpoint)

    def _images(self, observation: Observation) -> Tensor:
        """Resized images (1, N, 3, s, s) uint8 on the model's device, cameras in the model's order."""
        missing = [name for name in self.camera_names if name not in observation.images]
        if missing:
            raise ObservationError(
                f"the observation lacks camera {', '.join(missing)}; the model expects {', '.join(self.camera_names)}"
            )
        resized = [self._image(name, observation.images[name]) for name in self.camera_names]
        return torch.cat(resized).unsqueeze(0)

    def _image(self, name: str, image: np.ndarray) -> Tensor:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ObservationError(
                f"camera {name}: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
            )
        image = self.model.preprocess.jpeg(image)
        image = np.require(image, requirements="CW")  # copies only what torch cannot take as a view
        return self.model.preprocess.resize(torch.from_numpy(image).to(self.model.device).unsqueeze(0))

    def _state(self, observation: Observation) -> np.ndarray:
        state = np.asarray(observation.state)
        if state.shape != (self.config.state_dim,):
            raise ObservationError(
                f"the state has shape {state.shape}, the model expects ({self.config.state_dim},)"
            )
        if not np.isfinite(state).all():
            raise ObservationError(
                f"the state is not finite in dimension {int(np.argmin(np.isfinite(state)))}"
            )
        return self.state_normalizer.normalize(state)


def build_policy(
    config: ModelConfig,
    statistics: dict,
    rig_text: str,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Policy:
    """A fresh model, its random weights given by `seed`; without a tokenizer one is built for the prompt."""
    tokenizer = tokenizer or build_tokenizer(vocab=config.llm.vocab)
    checkpoints.check_vocabulary(config, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VLAAdapter(config)
    return Policy(Checkpoint(model.to(device), statistics, rig_text, tokenizer), f"untrained-{seed}")
