"""A released VLA-Adapter folder on disk: which files it has, and what is in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vla_model.files import CheckpointError, read_json, read_pickle, read_safetensors, read_text
from vla_model.released.names import HEAD, PROJECTOR

CONFIG, VLM, STATISTICS = "config.json", "model.safetensors", "dataset_statistics.json"
PREPROCESSOR, RIG = "preprocessor_config.json", "rig.yaml"


@dataclass(frozen=True)
class Folder:
    """What was read. Weights are named as in `names`; `files` says which file each came from, by prefix."""

    path: Path
    config: dict
    preprocessor: dict
    statistics: dict
    weights: dict[str, Tensor]
    files: dict[str, Path]
    rig_text: str

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The weights of one file: "action_head", "proprio_projector", or "" for model.safetensors."""
        return {name: value for name, value in self.weights.items() if prefix_of(name) == prefix}


def prefix_of(name: str) -> str:
    """Which file a weight is stored in."""
    first = name.split(".", 1)[0]
    return first if first in (HEAD, PROJECTOR) else ""


def is_released(directory: Path) -> bool:
    """Whether this is a released folder rather than one of ours."""
    if any(path.name.startswith((f"{HEAD}--", f"{PROJECTOR}--")) for path in directory.iterdir()):
        return True
    try:
        config = json.loads((directory / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in ("openvla", "prismatic")


def read(directory: Path) -> Folder:
    """Everything but the tokenizer. CheckpointError names the file that is missing or broken."""
    missing = [name for name in (CONFIG, VLM, STATISTICS) if not (directory / name).is_file()]
    if missing:
        hint = ""
        if VLM in missing and (directory / "lora_adapter").is_dir():
            hint = "; its lora_adapter/ is not merged into the base model yet"
        raise CheckpointError(f"released folder {directory} lacks {', '.join(missing)}{hint}")
    files = {"": directory / VLM} | {part: component_file(directory, part) for part in (HEAD, PROJECTOR)}
    weights = read_safetensors(files[""])
    for part in (HEAD, PROJECTOR):
        weights |= _component(files[part], part)
    preprocessor = directory / PREPROCESSOR
    rig = directory / RIG
    return Folder(
        path=directory,
        config=read_json(directory / CONFIG),
        preprocessor=read_json(preprocessor) if preprocessor.is_file() else {},
        statistics=read_json(directory / STATISTICS),
        weights=weights,
        files=files,
        rig_text=read_text(rig) if rig.is_file() else "",
    )


def component_file(directory: Path, part: str) -> Path:
    """The one file of a component, by the reference's rule: its name and "checkpoint" are in the file's name."""
    found = sorted(
        p for p in directory.iterdir() if part in p.name and "checkpoint" in p.name and p.is_file()
    )
    if len(found) != 1:
        names = f": {', '.join(p.name for p in found)}" if found else f", such as {part}--checkpoint.pt"
        raise CheckpointError(
            f"released folder {directory} has {len(found)} {part} files, expected one{names}"
        )
    return found[0]


def _component(path: Path, part: str) -> dict[str, Tensor]:
    """Without the "module." that DistributedDataParallel put before every name."""
    return {f"{part}.{name.removeprefix('module.')}": value for name, value in read_pickle(path).items()}


def weight_files(directory: Path) -> list[Path]:
    return [directory / VLM, *(component_file(directory, part) for part in (HEAD, PROJECTOR))]
