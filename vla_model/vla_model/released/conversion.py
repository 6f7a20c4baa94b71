"""A released folder becomes one of ours, or one of ours a released folder, weight by weight."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vla_model import stored
from vla_model.files import CheckpointError, read_safetensors, write_safetensors
from vla_model.normalize import normalizers
from vla_model.released import folder, load, names, write
from vla_model.released.express import check_expressible
from vla_model.released.options import Options
from vla_model.released.progress import follow
from vla_model.stored import Stored
from vla_model.weights import check, common_dtype, shapes

UNREAD = "unread.safetensors"  # beside our files: released weights that nobody reads, for the way back


def convert(
    source: Path,
    target: Path,
    options: Options | None = None,
    rig_text: str = "",
    dtype: torch.dtype | None = None,
) -> list[str]:
    """Write `target`, complete or not at all, and never over something. Returns what is worth saying about it.

    dtype None keeps every weight bit for bit. CheckpointError, StatisticsError.
    """
    stored.existing(source)
    if target.exists():
        raise CheckpointError(f"{target} exists already; choose another name")
    partial = target.with_name(f".{target.name}.partial{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        if folder.is_released(source):
            said = _from_released(source, partial, options, rig_text, dtype)
        else:
            said = _to_released(source, partial, options, dtype)
        partial.rename(target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return said


def _from_released(
    source: Path, target: Path, options: Options | None, rig_text: str, dtype: torch.dtype | None
) -> list[str]:
    read, unread = load.read_all(source, options)
    normalizers(read.statistics, read.config)  # they fit, or it is said now
    if rig_text:
        stored.check_rig(read.config, rig_text, "the given rig file")
    rig_text = rig_text or read.rig_text
    if not rig_text:
        raise CheckpointError(
            f"{source} has no rig.yaml: say with --rig which rig the model is for, e.g. --rig my_rig.yaml"
        )
    config, weights, unread = read.config, _cast(read.weights, dtype), _cast(unread, dtype)
    with follow(target, _bytes(weights) + _bytes(unread)):
        write_safetensors(target / UNREAD, unread)
        stored.write(target, Stored(config, weights, read.statistics, rig_text, read.tokenizer))
    return [
        *load.notes(source, unread, config),
        f"{len(weights)} weights, and in {UNREAD}, for the way back, {len(unread)} that nobody reads",
        f"{config.head.block} head: {config.horizon} actions of {config.action_dim} values every {config.dt_s:g} s, "
        f"from {config.state_dim} state values and cameras {', '.join(config.camera_names)}; "
        f"normalization {config.normalization}, gripper {config.gripper}",
    ]


def _to_released(source: Path, target: Path, options: Options | None, dtype: torch.dtype | None) -> list[str]:
    if options and options.model_fields_set:
        given = ", ".join(sorted(options.model_fields_set))
        raise CheckpointError(
            f"{source} is one of our checkpoints and says itself: {given}; leave these options out"
        )
    read = stored.read(source)
    normalizers(read.statistics, read.config)
    check_expressible(read.config, read.statistics)
    theirs = names.to_theirs(read.weights, read.config)
    unread = names.unread_shapes(read.config, shapes(theirs))
    kept = read_safetensors(source / UNREAD) if (source / UNREAD).is_file() else {}
    check(unread, shapes(kept), source / UNREAD, optional=unread)
    lacking = {name: shape for name, shape in unread.items() if name not in kept and name != names.LM_HEAD}
    fresh = dict(write.random_weights(lacking, seed=0, dtype=common_dtype(theirs.values())))
    weights = _cast(theirs | kept | fresh, dtype)
    with follow(target, _bytes(weights)):
        write.write(target, read.config, weights, read.statistics, read.rig_text, read.tokenizer)
    said = [f"{len(weights)} weights"]
    if fresh:
        said.append(
            f"{len(fresh)} of them are random: the released form has a place for them, and the reference loads but "
            f"never reads them ({', '.join(_kinds(fresh))})"
        )
    return said


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {name: value if dtype is None else value.to(dtype) for name, value in weights.items()}


def _bytes(weights: Mapping[str, Tensor]) -> int:
    return sum(value.nbytes for value in weights.values())


def _kinds(weights: Mapping[str, Tensor]) -> list[str]:
    known = {".blocks.": "last block of each tower", ".norm.": "final norms", ".attn_pool.": "attention pooling",
             ".film_gen.": "FiLM"}  # fmt: skip
    return [text for key, text in known.items() if any(key in name for name in weights)]
