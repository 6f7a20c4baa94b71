"""What a training leaves behind: the checkpoint directory, complete or not at all, with its loss curve."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from vla_model.policy import Policy
from vla_training.episodes import TrainingError
from vla_training.train import Result, Settings

matplotlib.use("agg")


def check_output(directory: Path, overwrite: bool) -> None:
    """Before the long work: TrainingError when the directory is taken or its parent cannot be written."""
    if directory.exists() and not overwrite:
        raise TrainingError(f"{directory} exists already; choose another --output, or add --overwrite")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{directory.parent}: cannot be made: {error.strerror}") from error
    if not os.access(directory.parent, os.W_OK):
        raise TrainingError(f"{directory.parent}: may not be written; choose another --output")


def save(directory: Path, policy: Policy, result: Result, settings: Settings) -> None:
    """Write the checkpoint beside its place, then rename it.

    Raises TrainingError when the disk refuses; a checkpoint that was there before still is, then.
    """
    partial = directory.with_name(f".{directory.name}.partial{os.getpid()}")
    try:
        policy.save(partial)
        (partial / "training.json").write_text(json.dumps(_record(result, settings), indent=2) + "\n")
        _plot(result.losses, policy.model.head.loss_name, partial / "loss.png")
        _replace(partial, directory)
    except OSError as error:
        raise TrainingError(f"{directory}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, directory: Path) -> None:
    if not directory.exists():
        partial.rename(directory)
        return
    old = directory.with_name(f".{directory.name}.old{os.getpid()}")
    directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old)


def _record(result: Result, settings: Settings) -> dict:
    values = {
        key: None if value == float("inf") else value for key, value in dataclasses.asdict(settings).items()
    }
    return {
        "settings": values,
        "seconds": round(result.seconds, 1),
        "losses": [round(x, 6) for x in result.losses],
        "metrics": {name: [round(x, 6) for x in values] for name, values in result.metrics.items()},
    }


def _plot(losses: list[float], name: str, file: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel=name, yscale="log")
    axes.plot(range(1, len(losses) + 1), losses, linewidth=0.8)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=100)
