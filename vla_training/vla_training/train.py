"""The training loop: AdamW, warm-up and cosine, clipped gradients; stops at a step, at a time, or when asked."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm

from vla_model.adapter import VLAAdapter
from vla_model.preprocess import Preprocessor
from vla_training.augment import augment_images, augment_state
from vla_training.dataset import ChunkDataset
from vla_training.episodes import TrainingError
from vla_training.frozen import FrozenChunks, head_loss


@dataclass(frozen=True)
class Settings:
    """How to train; the names are those of the command line."""

    steps: int = 20000
    max_minutes: float = math.inf
    batch: int = 8
    accumulate: int = 1
    lr: float = 2e-4
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    augment: bool = True
    state_noise: float = 0.0
    workers: int = 0
    seed: int = 0


@dataclass
class Result:
    """What happened. `losses` has one value per step, and so has each of the head's metrics."""

    losses: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False


def train(
    model: VLAAdapter,
    data: ChunkDataset | FrozenChunks,
    settings: Settings,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Optimise every weight that requires a gradient, on the model's device; `stop` is asked after each step.

    On the CPU the same settings, data and thread count give the same weights. Raises TrainingError when the
    loss is not finite.
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = _optimizer(model, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    batches = _batches(data, settings, generator)
    result, begin = Result(), time.monotonic()
    model.train()
    with tqdm(total=settings.steps, desc="training", unit="step") as progress:
        for step in range(settings.steps):
            minutes = (time.monotonic() - begin) / 60
            if minutes >= settings.max_minutes:
                break
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * schedule(step, minutes, settings)
            loss, metrics = _step(model, batches, settings, generator)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} after {step} steps; try a smaller --lr")
            if settings.clip:
                nn.utils.clip_grad_norm_(weights, settings.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            result.losses.append(loss)
            for name, value in metrics.items():
                result.metrics.setdefault(name, []).append(value)
            shown = {name: f"{value:.3f}" for name, value in metrics.items()}
            progress.set_postfix(loss=f"{loss:.4f}", **shown, refresh=False)
            progress.update()
            if stop():
                result.interrupted = True
                break
    model.eval()
    result.seconds = time.monotonic() - begin
    return result


def schedule(step: int, minutes: float, settings: Settings) -> float:
    """Share of the full learning rate: linear warm-up, then half a cosine to 0 at the last step.

    When time runs out before the steps do, the cosine ends with the time.
    """
    progress = max(step / settings.steps, minutes / settings.max_minutes)
    return min(1.0, (step + 1) / max(settings.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW. Matrices decay; biases, norms, gates and embedded vectors do not."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def _batches(
    data: ChunkDataset | FrozenChunks, settings: Settings, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Endless shuffled batches; every item comes once before any comes again."""
    batch = min(settings.batch, len(data))
    sampler = RandomSampler(data, generator=generator)
    loader = DataLoader(
        data, batch, sampler=sampler, drop_last=True, num_workers=settings.workers, collate_fn=lambda items: items,
        persistent_workers=settings.workers > 0, worker_init_fn=_leave_interrupts_to_the_main_process,
    )  # fmt: skip
    while True:
        yield from loader


def _leave_interrupts_to_the_main_process(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _seen(
    preprocess: Preprocessor, stretched: Tensor, settings: Settings, generator: torch.Generator
) -> Tensor:
    """Images as the model gets them: augmented, or the part that serving takes."""
    if settings.augment:
        return augment_images(stretched, generator, preprocess.late_crop_area)
    return preprocess.crop(stretched)


def _step(
    model: VLAAdapter, batches: Iterator[dict[str, Tensor]], settings: Settings, generator: torch.Generator
) -> tuple[float, dict[str, float]]:
    """Gradients of `accumulate` batches, averaged; returns their mean loss, and the last one's metrics."""
    total = 0.0
    for _ in range(settings.accumulate):
        batch = next(batches)
        if "images" in batch:
            batch["images"] = _seen(model.preprocess, batch["images"], settings, generator)
        if settings.state_noise:
            batch["state"] = augment_state(batch["state"], settings.state_noise, generator)
        batch = {name: value.to(model.device) for name, value in batch.items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
            result = model(batch) if "images" in batch else head_loss(model, batch)
        (result["loss"] / settings.accumulate).backward()
        total += float(result["loss"].detach()) / settings.accumulate
    return total, {name: float(value) for name, value in result["metrics"].items()}
