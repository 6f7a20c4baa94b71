"""The four cameras of the simulated ALOHA and their renderer.

The model's own wrist cameras see 20 degrees and its front camera one arm only, so the views are set
here after the real kit: one from above, one low in front, one on each gripper. Fields of view are
chosen so that the objects fill as many pixels as the work space allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from vla_sim.world import ARMS

QUALITIES = ("fast", "fine")
"""fast: no shadows, reflections or multisampling, a fifth of the time of fine on a CPU."""


@dataclass(frozen=True)
class View:
    """A camera at position (m) looking at target (m), in the frame of its parent; up is the parent's +z."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    fovy_deg: float

    def quaternion(self) -> np.ndarray:
        """Orientation (w, x, y, z); MuJoCo's cameras look along -z with +y up."""
        back = np.subtract(self.position, self.target)
        back = back / np.linalg.norm(back)
        right = np.cross([0.0, 0.0, 1.0], back)
        right = right / np.linalg.norm(right)
        matrix = np.stack([right, np.cross(back, right), back], axis=1)
        return Rotation.from_matrix(matrix).as_quat(scalar_first=True)


TABLE_VIEWS = {
    "cam_high": View((0.0, 0.1, 0.85), (0.0, 0.49, 0.05), 46.0),
    "cam_low": View((0.0, -0.15, 0.22), (0.0, 0.5, 0.12), 48.0),
}
WRIST_VIEW = View((-0.06, 0.0, 0.15), (0.16, 0.0, 0.0), 62.0)
CAMERA_NAMES = (*TABLE_VIEWS, "cam_left_wrist", "cam_right_wrist")


def add_cameras(spec: mujoco.MjSpec) -> None:
    """Add CAMERA_NAMES to a model not yet compiled."""
    for name, view in TABLE_VIEWS.items():
        _add(spec.worldbody, name, view)
    for arm in ARMS:
        _add(spec.body(f"vx300s_{arm}/gripper_link"), f"cam_{arm}_wrist", WRIST_VIEW)


def _add(body: mujoco.MjsBody, name: str, view: View) -> None:
    body.add_camera(name=name, pos=view.position, quat=view.quaternion(), fovy=view.fovy_deg)


class CameraRenderer:
    """Renders named cameras of a model, in any of the given sizes. Its OpenGL context belongs to one thread."""

    def __init__(self, model: mujoco.MjModel, sizes: Iterable[tuple[int, int]], quality: str = "fast"):
        """sizes: (height, width) of the images to come. Raises ValueError for an unknown quality."""
        if quality not in QUALITIES:
            raise ValueError(f"render quality '{quality}' is not one of {', '.join(QUALITIES)}")
        if quality == "fast":
            model.vis.quality.offsamples = 0
        self._renderers = {size: self._make(model, size, quality == "fine") for size in set(sizes)}

    @staticmethod
    def _make(model: mujoco.MjModel, size: tuple[int, int], fine: bool) -> mujoco.Renderer:
        height, width = size
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        renderer = mujoco.Renderer(model, height, width)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = fine
        return renderer

    def render(self, data: mujoco.MjData, camera: str, out: np.ndarray) -> None:
        """Draw a camera's view into out, (height, width, 3) uint8 RGB, contiguous, of one of the sizes."""
        renderer = self._renderers[out.shape[:2]]
        renderer.update_scene(data, camera)
        renderer.render(out=out)

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
