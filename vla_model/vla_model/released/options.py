"""What a released folder does not say about its model, and a robot must know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vla_model.files import CheckpointError, explain, read_json

FILE = "vla_policy.json"


@dataclass(frozen=True)
class Platform:
    """Constants that the reference keeps in its code (prismatic/vla/constants.py) and evaluation scripts."""

    horizon: int
    action_dim: int
    state_dim: int
    normalization: str
    gripper: str


PLATFORMS = {
    "libero": Platform(8, 7, 8, "bounds_q99", "libero"),
    "calvin": Platform(8, 7, 8, "bounds_q99", "calvin"),
    "aloha": Platform(25, 14, 14, "bounds", "none"),
    "bridge": Platform(5, 7, 7, "bounds_q99", "none"),
}


class Options(BaseModel):
    """Given as arguments, or in a file `vla_policy.json` in the folder; arguments win."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cameras: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="camera names in the order of training: the main camera first, then the wrists",
    )
    rate_hz: float | None = Field(None, gt=0, description="actions a second (LIBERO 20, CALVIN 30)")
    platform: Literal["libero", "calvin", "aloha", "bridge"] | None = Field(
        None, description="stands for horizon, normalization and gripper as the reference trains them"
    )
    horizon: int | None = Field(None, gt=0, description="actions in a chunk")
    normalization: Literal["bounds", "bounds_q99"] | None = Field(
        None, description="of actions and state: by min and max, or by 1 % and 99 % quantiles"
    )
    gripper: Literal["none", "libero", "calvin"] | None = Field(
        None, description="convention of the last action dimension"
    )
    dataset: str | None = Field(
        None, description="entry of dataset_statistics.json (the reference's unnorm_key), when it has several"
    )
    task_tokens: int = Field(
        512, gt=0, description="where the head parts patches from queries; released code always says 512"
    )
    center_crop: bool = Field(
        True,
        description="crop images to 90 % of their area, right for models trained with image augmentation",
    )

    def updated(self, over: Options) -> Options:
        """These options, with those that `over` sets explicitly on top."""
        return self.model_copy(update=over.model_dump(exclude_unset=True, exclude_none=True))

    def completed(self, action_dim: int, state_dim: int, datasets: Iterable[str], where: Path) -> Options:
        """With what the platform implies; CheckpointError naming what is still missing and what would fit."""
        datasets = sorted(datasets)
        if self.dataset is not None and self.dataset not in datasets:
            raise CheckpointError(
                f"{where}: its statistics have no data set '{self.dataset}'; they have: {', '.join(datasets)}"
            )
        options = self._with_platform(action_dim, state_dim, datasets, where)
        required = ("cameras", "rate_hz", "horizon", "normalization", "gripper")
        missing = [key for key in required if getattr(options, key) is None]
        if len(datasets) > 1 and self.dataset is None:
            missing.append(f"dataset (one of {', '.join(datasets)})")
        if missing:
            raise CheckpointError(_ask(where, missing, action_dim, state_dim))
        return options

    def _with_platform(self, action_dim: int, state_dim: int, datasets: list[str], where: Path) -> Options:
        """The named platform's constants, or those of the one in the data set's name, if the sizes agree."""
        dataset = self.dataset or (datasets[0] if len(datasets) == 1 else "")
        fitting = _fitting(action_dim, state_dim)
        name = self.platform or next((name for name in fitting if name in dataset.lower()), None)
        if name is None:
            return self
        if name not in fitting:
            p = PLATFORMS[name]
            raise CheckpointError(
                f"{where}: platform {name} has {p.action_dim} action and {p.state_dim} state values, these weights "
                f"have {action_dim} and {state_dim}; say horizon, normalization and gripper instead"
            )
        p = PLATFORMS[name]
        implied = Options(platform=name, horizon=p.horizon, normalization=p.normalization, gripper=p.gripper)
        return implied.updated(self)

    def to_json(self) -> str:
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def read(folder: Path, given: Options | None = None) -> Options:
    """Options of a folder's file, if there is one, with the given ones on top. CheckpointError."""
    path = folder / FILE
    options = Options()
    if path.is_file():
        try:
            options = Options.model_validate(read_json(path))
        except ValidationError as error:
            raise CheckpointError(
                f"{path}: {explain(error)}; it may have: {', '.join(Options.model_fields)}"
            ) from error
    return options.updated(given) if given else options


def _fitting(action_dim: int, state_dim: int) -> list[str]:
    return [name for name, p in PLATFORMS.items() if (p.action_dim, p.state_dim) == (action_dim, state_dim)]


def _ask(where: Path, missing: list[str], action_dim: int, state_dim: int) -> str:
    known = " or ".join(
        f"platform {name} (horizon {PLATFORMS[name].horizon}, normalization {PLATFORMS[name].normalization}, "
        f"gripper {PLATFORMS[name].gripper})"
        for name in _fitting(action_dim, state_dim)
    )
    return (
        f"{where} is a released VLA-Adapter folder, which does not say: {', '.join(missing)}. Say it in "
        f"{where / FILE}, or as options of `convert`. Its actions have {action_dim} values and its state {state_dim}; "
        f"that fits {known or 'none of the platforms ' + ', '.join(PLATFORMS)}"
    )
