"""Reading a released folder as if it were one of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from vla_model.config import ModelConfig
from vla_model.released import folder as folders
from vla_model.released import infer, names, options
from vla_model.released.folder import Folder
from vla_model.released.options import Options
from vla_model.stored import Stored, check_rig, check_vocabulary
from vla_model.tokenizer import load_tokenizer
from vla_model.weights import check, shapes

log = logging.getLogger(__name__)


def read(directory: Path, given: Options | None = None) -> Stored:
    """A released folder's parts, weights under our names, those that nobody reads left out. CheckpointError."""
    stored, _ = read_all(directory, given)
    return stored


def read_all(directory: Path, given: Options | None = None) -> tuple[Stored, dict]:
    """The same, and the weights that nobody reads, under their released names."""
    folder = folders.read(directory)
    config = config_of(folder, given)
    unread = _check_weights(folder, config)
    for note in notes(directory, unread, config):
        log.info("%s: %s", directory, note)
    tokenizer = load_tokenizer(directory)
    check_vocabulary(config, tokenizer)
    check_rig(config, folder.rig_text, directory / folders.RIG)
    weights = names.to_ours(folder.weights, config)
    stored = Stored(config, weights, folder.statistics, folder.rig_text, tokenizer)
    return stored, {name: folder.weights[name] for name in unread}


def config_of(folder: Folder, given: Options | None = None) -> ModelConfig:
    found = shapes(folder.weights)
    sizes = infer.dims(found, folder.path)
    complete = options.read(folder.path, given).completed(*sizes, folder.statistics, folder.path)
    return infer.model_config(folder.config, folder.preprocessor, found, complete, folder.path)


def notes(directory: Path, unread: Iterable[str], config: ModelConfig) -> list[str]:
    """What a user may wonder about."""
    found = []
    if (directory / "lora_adapter").is_dir():
        found.append(f"lora_adapter/ is not read: {folders.VLM} holds the merged weights")
    if names.LM_HEAD in unread:
        found.append(f"{names.LM_HEAD} is not read: no output passes through it")
    if config.task_tokens != config.patches:
        found.append(
            f"task and query tokens part at {config.task_tokens}, as in released code, although "
            f"{len(config.camera_names)} cameras have {config.patches} patches; for a model that was trained with "
            f"its own split say task_tokens {config.patches}"
        )
    return found


def _check_weights(folder: Folder, config: ModelConfig) -> list[str]:
    """CheckpointError, file by file; else the names of the weights that nobody reads."""
    read = names.read_shapes(config)
    unread = names.unread_shapes(config, read)
    optional = [name for name in unread if name == names.LM_HEAD or ".film_gen." in name]
    for prefix, path in folder.files.items():
        expected = {
            name: shape for name, shape in (read | unread).items() if folders.prefix_of(name) == prefix
        }
        check(expected, shapes(folder.part(prefix)), path, optional)
    return [name for name in unread if name in folder.weights]
