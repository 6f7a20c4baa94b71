"""A sample of the rig's messages -> the policy's observation."""

from __future__ import annotations

import numpy as np

from vla_model.policy import Observation, ObservationError
from vla_rig.align import Sample
from vla_rig.images import ImageError, to_rgb
from vla_rig.inputs import RigInputs
from vla_rig.joints import JointError, state_reader
from vla_rig.rig import Rig


class Observer:
    """Decodes samples. What cannot be decoded is counted on its stream and ends in ObservationError."""

    def __init__(self, rig: Rig, inputs: RigInputs, cameras: list[str]) -> None:
        self._rig, self._inputs, self._cameras = rig, inputs, cameras
        self._state = state_reader(rig)

    def observe(self, sample: Sample, instruction: str) -> Observation:
        """Images (H, W, 3) uint8 RGB by camera name and the state (S,) float32 in the rig's units."""
        images = {name: self._image(name, sample.values[name]) for name in self._cameras}
        try:
            state = self._state.read(sample.values)
        except JointError as error:
            raise ObservationError(str(error)) from None
        return Observation(images=images, state=state, instruction=instruction, stamp_ns=sample.t_ns)

    def _image(self, name: str, message) -> np.ndarray:
        camera = self._rig.cameras[name]
        try:
            image = to_rgb(message)
        except ImageError as error:
            self._inputs.reject(name, str(error))
            raise ObservationError(f"{name} ({camera.topic}): {error}") from None
        if image.shape[:2] != (camera.height, camera.width):
            reason = f"image is {image.shape[1]}x{image.shape[0]}, the rig file says {camera.width}x{camera.height}"
            self._inputs.reject(name, reason)
            raise ObservationError(f"{name} ({camera.topic}): {reason}")
        return image
