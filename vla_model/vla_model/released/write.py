"""Writing a released folder: what the public reference's loader reads, in its names and layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.files import write_json, write_pickle, write_safetensors, write_text
from vla_model.normalize import describe
from vla_model.released import folder, names, options
from vla_model.released.express import check_expressible, config_json, options_of, preprocessor_json
from vla_model.tokenizer import build_tokenizer, save_tokenizer
from vla_model.weights import Shapes, common_dtype


def write(
    directory: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    statistics: Mapping,
    rig_text: str,
    tokenizer: Tokenizer,
) -> None:
    """Write the folder (made if need be); `weights` are named as in `names`.

    Raises CheckpointError for what `check_expressible` refuses.
    """
    check_expressible(config, statistics)
    directory.mkdir(parents=True, exist_ok=True)
    vlm = {name: value for name, value in weights.items() if folder.prefix_of(name) == ""}
    dtype = str(common_dtype(vlm.values())).removeprefix("torch.")
    files = {
        folder.CONFIG: config_json(config) | {"norm_stats": statistics, "torch_dtype": dtype},
        folder.PREPROCESSOR: preprocessor_json(config),
        folder.STATISTICS: statistics,
        "generation_config.json": {"_from_model_config": True, "transformers_version": "4.40.1"},
        "processor_config.json": {"processor_class": "PrismaticProcessor"},
    }
    for name, content in files.items():
        write_json(directory / name, content)
    if rig_text:
        write_text(directory / folder.RIG, rig_text)
    write_text(directory / options.FILE, options_of(config).to_json())
    save_tokenizer(tokenizer, directory)
    for part in (names.HEAD, names.PROJECTOR):
        state = {
            f"module.{name.removeprefix(f'{part}.')}": value
            for name, value in weights.items()
            if folder.prefix_of(name) == part
        }
        write_pickle(directory / f"{part}--checkpoint.pt", state)
    write_safetensors(directory / folder.VLM, vlm)


def write_released(
    directory: Path, config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """A released folder with random weights and statistics, to try loaders and speed without a download.

    Returns the weights. Every tensor gets values that matter: gates are open, norms and scales are not 1.
    """
    statistics = _random_statistics(config, seed)
    check_expressible(config, statistics)
    read = names.read_shapes(config)
    needed = read | names.unread_shapes(config, read)
    del needed[names.LM_HEAD]
    weights = dict(random_weights(needed, seed, dtype))
    write(
        directory,
        config,
        weights,
        statistics,
        "",
        build_tokenizer(vocab=config.llm.vocab),
    )
    return weights


def random_weights(needed: Shapes, seed: int, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Normal numbers, scaled so that signals keep their size through layers."""
    generator = torch.Generator().manual_seed(seed)
    for name, shape in needed.items():
        layer, _, part = name.rpartition(".")
        values = torch.randn(shape, generator=generator)
        if part == "scale_factor":
            values = 0.1 * values + 0.3
        elif "gating_factor" in name:
            values = 0.2 * values + 0.5
        elif part == "weight" and len(shape) == 1:  # of a norm
            values = 0.1 * values + 1
        elif part == "weight" and not layer.endswith(("embed_tokens", "action_queries")):
            values *= np.prod(shape[1:]) ** -0.5
        else:  # biases, tokens, positions, embeddings
            values *= 0.02
        yield name, values.to(dtype)


def _random_statistics(config: ModelConfig, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    action, state = (describe(rng.normal(size=(500, dim))) for dim in (config.action_dim, config.state_dim))
    action["mask"] = [i not in config.gripper_dims for i in range(config.action_dim)]
    entry = {"action": action, "proprio": state, "num_transitions": 500, "num_trajectories": 5}
    return {config.dataset or "random": entry}
