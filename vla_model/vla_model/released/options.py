"""What a released folder does not say about its model, and a robot must know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vla_model.weights import CheckpointError, explain, read_json

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
        datasets = list(datasets)
        name = self.platform or _guess(
            self.dataset or (datasets[0] if len(datasets) == 1 else ""), action_dim, state_dim
        )
        options = self
        if name is not None:
            platform = PLATFORMS[name]
            if (platform.action_dim, platform.state_dim) != (action_dim, state_dim):
                raise CheckpointError(
                    f"{where}: platform {name} has {platform.action_dim} action and {platform.state_dim} state values, "
                    f"these weights have {action_dim} and {state_dim}; name horizon, normalization and gripper instead"
                )
            implied = Options(
                platform=name,
                horizon=platform.horizon,
                normalization=platform.normalization,
                gripper=platform.gripper,
            )
            options = implied.updated(self)
        missing = [
            key
            for key in ("cameras", "rate_hz", "horizon", "normalization", "gripper")
            if getattr(options, key) is None
        ]
        if len(datasets) > 1 and self.dataset is None:
            missing.append(f"dataset (one of {', '.join(sorted(datasets))})")
        if missing:
            raise CheckpointError(_ask(where, missing, action_dim, state_dim))
        return options

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


def _guess(dataset: str, action_dim: int, state_dim: int) -> str | None:
    """The platform in a data set's name, as the reference finds it in its command line, when the sizes agree."""
    for name, platform in PLATFORMS.items():
        if name in dataset.lower() and (platform.action_dim, platform.state_dim) == (action_dim, state_dim):
            return name
    return None


def _ask(where: Path, missing: list[str], action_dim: int, state_dim: int) -> str:
    fitting = [
        f"platform {name} (horizon {p.horizon}, normalization {p.normalization}, gripper {p.gripper})"
        for name, p in PLATFORMS.items()
        if (p.action_dim, p.state_dim) == (action_dim, state_dim)
    ]
    known = " or ".join(fitting) or "none of the platforms " + ", ".join(PLATFORMS)
    return (
        f"{where} is a released VLA-Adapter folder, which does not say: {', '.join(missing)}. Give them as options "
        f"or in {where / FILE}. Its actions have {action_dim} values and its state {state_dim}; that fits {known}"
    )
