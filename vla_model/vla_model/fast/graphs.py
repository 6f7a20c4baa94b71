"""Predict as one CUDA graph: frames and a state in by one copy, one launch, the chunk back by one copy.

A graph replays exact addresses and shapes, so that everything a call brings is written where the graph reads it:
frames and state into pinned memory of the host and from there to the device, a new prompt into its Sequence. A graph
serves one set of frame sizes and all prompts up to a length; a few are kept. Recording one takes a second or two:
Policy.warm_up does that before a robot moves. After it a call allocates nothing on the device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vla_model.fast.model import FastModel
from vla_model.fast.sequence import Prompt
from vla_model.fast.staging import Sizes, Staging
from vla_model.preprocess import Preprocessor

KEPT = 4
PROMPT_STEP = 64
"""Prompts are padded to a multiple of it: with 64 queries and 256 patches a camera a sequence is then a multiple of 64
rows, which matrix products on a GPU round up to anyway, and instructions up to 27 tokens share one graph."""

Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


class Graph:
    """What a function of unchanging shapes does on a CUDA device, recorded; calling it replays that.

    The function must read and write the same memory every time and never wait for the device. Its result stays in
    one place and is overwritten by the next call. `sharing`: another graph, which never runs at the same time; what
    is needed only within a call lies in the same memory then.
    """

    def __init__(self, function: Callable[[], Tensor], device: torch.device, sharing: Graph | None = None):
        self._graph = torch.cuda.CUDAGraph()
        self._stream = sharing._stream if sharing else torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for _ in range(2):  # libraries set themselves up, which must not be recorded
                function()
        self._stream.synchronize()
        pool = sharing._graph.pool() if sharing else None
        # thread_local: other threads of the process may use CUDA meanwhile
        with torch.cuda.graph(self._graph, pool, self._stream, capture_error_mode="thread_local"):
            self._result = function()

    def __call__(self) -> Tensor:
        self._graph.replay()
        return self._result


class Recorded:
    """Predict for one set of frame sizes and one prompt length."""

    def __init__(
        self, model: FastModel, preprocess: Preprocessor, sizes: Sizes, prompt: Prompt, record: Record
    ):
        self._staging = Staging(sizes, model.config.state_dim, model.device)
        self._sequence = model.sequence(prompt.length)
        self._sequence.use(prompt)
        self._run = record(
            lambda: model.run(self._staging.resized(preprocess), self._sequence, self._staging.state)[0]
        )
        shape = (model.config.horizon, model.config.action_dim)
        self._chunk = torch.empty(shape, pin_memory=model.device.type == "cuda")
        self._device = model.device

    def __call__(self, frames: Sequence[np.ndarray], prompt: Prompt, state: np.ndarray) -> np.ndarray:
        self._staging.fill(frames, state)
        self._sequence.use(prompt)
        self._chunk.copy_(self._run(), non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return self._chunk.numpy().copy()


class GraphRunner:
    """Runs a FastModel for a Policy; not for two threads at a time."""

    def __init__(self, model: FastModel, preprocess: Preprocessor, record: Record | None = None):
        """`record` makes a function of unchanging shapes repeatable, by default as a CUDA graph."""
        self._model, self._preprocess = model, preprocess
        self._record = record or self._graph
        self._newest: Graph | None = None
        self._kept: OrderedDict[tuple, Recorded] = OrderedDict()

    def prompt(self, ids: Tensor) -> Prompt:
        return self._model.prompt(ids, PROMPT_STEP)

    def __call__(self, frames: Sequence[np.ndarray], prompt: Prompt, state: np.ndarray) -> np.ndarray:
        """Frames (H, W, 3) uint8 and a normalised state (S,) float32 to a normalised chunk (H, A) float32."""
        sizes = tuple(frame.shape[:2] for frame in frames)
        key = (sizes, prompt.length)
        if key not in self._kept:
            if len(self._kept) == KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = Recorded(self._model, self._preprocess, sizes, prompt, self._record)
        self._kept.move_to_end(key)
        return self._kept[key](frames, prompt, state)

    def _graph(self, function: Callable[[], Tensor]) -> Graph:
        self._newest = Graph(function, self._model.device, self._newest)
        return self._newest
