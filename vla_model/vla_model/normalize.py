"""Normalisation of states and actions by data-set statistics, and its inverse.

Layout of dataset_statistics.json (the reference's, FT:save_dataset_statistics): {dataset: {"action": {mean,
std, min, max, q01, q99, mask?}, "proprio": {...}, num_transitions, num_trajectories}}, lists of floats.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_model.config import ModelConfig
from vla_model.grippers import Grippers

EPS = 1e-8  # the reference's guard against a range of zero
log = logging.getLogger(__name__)
_KEYS = {"bounds": ("min", "max"), "bounds_q99": ("q01", "q99"), "normal": ("mean", "std")}


class StatisticsError(ValueError):
    """dataset_statistics.json lacks something, or does not fit the model."""


class Normalizer:
    """Affine map of one vector, per dimension; before it (after it, on the way back) grippers change convention.

    bounds, bounds_q99:  z = 2 (x - lo) / (hi - lo + 1e-8) - 1, clipped to [-1, 1]
    normal:              z = (x - mean) / (std + 1e-8)

    A dimension whose mask is False passes as it is. One that is constant in the data (min == max, hi == lo or std
    == 0) becomes 0 and comes back as its constant; with `constant` "published" the formula holds there, too: -1,
    or +-1 when off its constant by anything. The reference trains on the former and infers on the latter.
    """

    def __init__(
        self,
        low: np.ndarray,
        scale: np.ndarray,
        offset: float,
        mask: np.ndarray,
        constant: np.ndarray,
        grippers: Grippers,
    ):
        self.dim = len(low)
        self._low, self._scale, self._offset = low, scale, offset
        self._mask, self._constant, self._grippers = mask, constant, grippers

    @classmethod
    def from_statistics(
        cls,
        statistics: Mapping[str, Any],
        scheme: str,
        dim: int,
        name: str = "statistics",
        constant: str = "zero",
        grippers: Grippers | None = None,
    ) -> Normalizer:
        """From one entry such as {"min": [...], "max": [...]}; `name` is for errors. StatisticsError."""
        grippers = grippers or Grippers()
        low, high = (_vector(statistics, key, scheme, dim, name) for key in _KEYS[scheme])
        mask = _mask(statistics, dim, name)
        still = high == (0 if scheme == "normal" else low)
        if {"min", "max"} <= statistics.keys():
            least, most = (_vector(statistics, key, scheme, dim, name) for key in ("min", "max"))
            if constant == "zero":
                _tell_of_rare_movement(still & (least < most) & mask, _KEYS[scheme], name)
            still |= least == most  # rounding leaves a constant some deviation
        if constant == "published":
            still = np.zeros(dim, bool)
        if scheme == "normal":
            if (high < 0).any():
                raise StatisticsError(f"{name}.std is negative in dimension {int(np.argmax(high < 0))}")
            return cls(low, high + EPS, 0.0, mask, still, grippers)
        if (low > high).any():
            worst = int(np.argmax(low - high))
            raise StatisticsError(
                f"{name}: {_KEYS[scheme][0]} is above {_KEYS[scheme][1]} in dimension {worst}"
            )
        return cls(low, (high - low + EPS) / 2, -1.0, mask, still, grippers)

    def normalize(self, x: np.ndarray, clip: bool = True) -> np.ndarray:
        """(..., dim) in the rig's units -> float32. `clip` keeps bounded schemes in [-1, 1], as the reference
        does.
        """
        x = self._grippers.encode(self._checked(x))
        z = (x - self._low) / self._scale + self._offset
        if clip and self._offset:
            z = np.clip(z, -1.0, 1.0)
        z = np.where(self._constant, 0.0, z)
        return np.where(self._mask, z, x).astype(np.float32)

    def denormalize(self, z: np.ndarray) -> np.ndarray:
        """(..., dim) -> float32 in the rig's units. Never clipped: what leaves [-1, 1] leaves the data's bounds."""
        z = self._checked(z)
        x = (z - self._offset) * self._scale + self._low
        x = np.where(self._constant, self._low, x)
        return self._grippers.decode(np.where(self._mask, x, z)).astype(np.float32)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        if x.shape[-1:] != (self.dim,):
            raise ValueError(f"expected vectors of {self.dim} values, got shape {x.shape}")
        return x


def normalizers(statistics: Mapping[str, Any], config: ModelConfig) -> tuple[Normalizer, Normalizer]:
    """State and action normaliser of a model. StatisticsError names the missing key."""
    entry, name = select(statistics, config.dataset)
    for key in ("proprio", "action"):
        if key not in entry:
            raise StatisticsError(
                f"data set statistics '{name}' lack '{key}'; they have: {', '.join(sorted(entry))}"
            )
        if not isinstance(entry[key], Mapping):
            raise StatisticsError(f"{name}.{key} is {entry[key]!r}, expected lists such as min and max")
    state = Normalizer.from_statistics(
        entry["proprio"], config.normalization, config.state_dim, f"{name}.proprio", config.constant_state
    )
    action = Normalizer.from_statistics(
        entry["action"], config.normalization, config.action_dim, f"{name}.action", grippers=config.grippers
    )
    return state, action


def select(statistics: Mapping[str, Any], dataset: str | None) -> tuple[Mapping[str, Any], str]:
    """The entry of a data set, and its name. Without a name the only entry is meant."""
    if not statistics:
        raise StatisticsError("data set statistics are empty")
    if dataset is None:
        if len(statistics) != 1:
            raise StatisticsError(
                f"data set statistics hold {sorted(statistics)}; name one as `dataset` in config.json"
            )
        dataset = next(iter(statistics))
    if dataset not in statistics:
        raise StatisticsError(
            f"data set statistics lack '{dataset}'; they have: {', '.join(sorted(statistics))}"
        )
    if not isinstance(statistics[dataset], Mapping):
        raise StatisticsError(
            f"data set statistics '{dataset}' are {statistics[dataset]!r}, expected an object"
        )
    return statistics[dataset], dataset


def describe(values: np.ndarray) -> dict[str, list[float]]:
    """Statistics of (frames, dim) values, as they stand in dataset_statistics.json."""
    values = np.asarray(values, dtype=np.float64)
    low, high = values.min(0), values.max(0)
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    columns = {"mean": values.mean(0), "std": values.std(0), "min": low, "max": high, "q01": q01, "q99": q99}
    return {key: column.tolist() for key, column in columns.items()}


def _vector(statistics: Mapping[str, Any], key: str, scheme: str, dim: int, name: str) -> np.ndarray:
    if key not in statistics:
        has = ", ".join(sorted(statistics))
        raise StatisticsError(f"{name} lacks '{key}', which normalisation '{scheme}' needs; it has: {has}")
    try:
        vector = np.asarray(statistics[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"{name}.{key} is no list of numbers: {error}") from error
    if vector.shape != (dim,):
        raise StatisticsError(f"{name}.{key} has shape {vector.shape}, expected {dim} values")
    if not np.isfinite(vector).all():
        raise StatisticsError(
            f"{name}.{key} is not finite in dimension {int(np.argmin(np.isfinite(vector)))}"
        )
    return vector


def _mask(statistics: Mapping[str, Any], dim: int, name: str) -> np.ndarray:
    mask = statistics.get("mask", [True] * dim)
    if not isinstance(mask, list) or len(mask) != dim or not all(isinstance(m, bool) for m in mask):
        raise StatisticsError(f"{name}.mask is {mask!r}, expected {dim} times true or false")
    return np.array(mask)


def _tell_of_rare_movement(dims: np.ndarray, keys: tuple[str, str], name: str) -> None:
    if dims.any():
        log.warning(
            "%s: %s equals %s in dimension %s, which does move in the data, but too seldom: it is treated as constant. "
            "Normalisation 'bounds' would keep its movement",
            name, *keys, ", ".join(map(str, np.flatnonzero(dims))),
        )  # fmt: skip
