"""Gripper conventions of the data sets that VLA-Adapter was released for.

The rig commands -1 or +1. The model was trained on the commands clipped to [0, 1], and on 1 minus that where
the data set was turned round; what it predicts is turned back and rounded to a command by its sign:

libero   -1 opens, +1 closes; the model's 1 is open    (oxe/transforms.py, run_libero_eval.process_action)
calvin   -1 closes, +1 opens; the model's 1 is open    (oxe/transforms.py, vla_evaluation.py, evaluate_calvin.py)
none     the gripper is an action like any other (ALOHA)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Grippers:
    """A convention and the action dimensions that it holds for."""

    convention: Literal["none", "libero", "calvin"] = "none"
    dims: tuple[int, ...] = ()

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) as the rig is commanded -> as the model is trained. A copy, unless nothing changes."""
        return self._convert(actions, _ENCODE[self.convention])

    def decode(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) as the model predicts -> commands; the inverse of `encode` for the commands -1 and +1."""
        return self._convert(actions, _DECODE[self.convention])

    def _convert(self, actions: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        if self.convention == "none":
            return actions
        out = np.array(actions)
        dims = list(self.dims)
        out[..., dims] = convert(out[..., dims])
        return out


def _decode_libero(g: np.ndarray) -> np.ndarray:
    return -np.sign(2 * g - 1)  # undecided, 0.5, stays 0


def _decode_calvin(g: np.ndarray) -> np.ndarray:
    sign = np.sign(2 * (1 - g) - 1)
    return -np.where(sign == 0, 1, sign)  # undecided, 0.5, closes; NaN stays NaN


_ENCODE = {
    "none": lambda g: g,
    "libero": lambda g: 1 - np.clip(g, 0, 1),
    "calvin": lambda g: np.clip(g, 0, 1),
}
_DECODE = {"none": lambda g: g, "libero": _decode_libero, "calvin": _decode_calvin}
