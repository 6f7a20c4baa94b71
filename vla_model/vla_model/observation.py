"""What a policy is given, and what is said when it does not fit the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_model.config import ModelConfig


class ObservationError(ValueError):
    """An observation lacks a camera, or does not fit the model."""


@dataclass(frozen=True)
class Observation:
    """What the robot sees at one time."""

    images: dict[str, np.ndarray]  # camera name -> (H, W, 3) uint8 RGB; cameras may differ in size
    state: np.ndarray  # (S,) in the rig's units
    instruction: str
    stamp_ns: int


def checked_frames(observation: Observation, config: ModelConfig) -> list[np.ndarray]:
    """(H, W, 3) uint8 of each camera, in the model's order. ObservationError."""
    missing = [name for name in config.camera_names if name not in observation.images]
    if missing:
        raise ObservationError(
            f"the observation lacks camera {', '.join(missing)}; the model expects {', '.join(config.camera_names)}"
        )
    frames = [observation.images[name] for name in config.camera_names]
    for name, image in zip(config.camera_names, frames, strict=True):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ObservationError(
                f"camera {name}: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
            )
    return frames


def checked_state(observation: Observation, config: ModelConfig) -> np.ndarray:
    """(S,) in the rig's units. ObservationError."""
    try:
        state = np.asarray(observation.state, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ObservationError(f"the state is no vector of numbers: {error}") from None
    if state.shape != (config.state_dim,):
        raise ObservationError(f"the state has shape {state.shape}, the model expects ({config.state_dim},)")
    if not np.isfinite(state).all():
        raise ObservationError(f"the state is not finite in dimension {int(np.argmin(np.isfinite(state)))}")
    return state
