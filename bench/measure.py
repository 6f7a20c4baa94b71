"""What a call costs on a device: time, launches, memory. The CPU counts operations where a GPU counts kernels."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from bench.row import times_us

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own notes

Call = Callable[[], object]
Side = TypeVar("Side")  # has `predict`
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
# allocate or rename, and compute nothing
_FREE = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::_unsafe_view"}


class _Operations(TorchDispatchMode):
    """Counts operations that compute: neither views nor bare allocations. Composite ones count by their parts."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self.count += not (func.is_view or func._schema.name in _FREE)
        return func(*args, **kwargs)


def operations(call: Call) -> int:
    """Operations that one call dispatches: what a GPU would launch, if nothing fused or recorded them."""
    with _Operations() as mode:
        call()
    return mode.count


def host_peak_mb(call: Call) -> float:
    """Most memory that one call holds at a time on the CPU, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


class Cpu:
    """One core, float32."""

    device, dtype = torch.device("cpu"), torch.float32
    tolerance = 0.01  # of a chunk's spread: resized images may differ by a grey level

    def __init__(self) -> None:
        self.name = f"{platform.machine()} CPU, 1 thread"
        torch.set_num_threads(1)

    def built(self, make: Callable[[], Side]) -> tuple[Side, float]:
        """What `make` returns, and the MB that a call of its `predict` holds at a time."""
        side = make()
        side.predict()
        return side, host_peak_mb(side.predict)

    def model_times_ms(self, ours: Call, theirs: Call, rounds: int) -> np.ndarray:
        return times_us(ours, theirs, rounds) / 1e3

    def launches(self, call: Call) -> dict[str, int]:
        return {"operations": operations(call)}


class Cuda:
    """A GPU, bfloat16."""

    dtype = torch.bfloat16
    tolerance = 0.2  # full size in bfloat16 on a CPU: 0.03 to 0.05; other images make 1 and more

    def __init__(self, device: torch.device) -> None:
        self.device = torch.device("cuda", device.index or 0)
        self.name = torch.cuda.get_device_name(self.device)
        torch.cuda.set_device(self.device)

    def built(self, make: Callable[[], Side]) -> tuple[Side, float]:
        """What `make` returns, and the MB that it and calls of its `predict` keep reserved on the device.

        Weights, graphs and their buffers are in it; what was needed only up to its first call is not.
        """
        self._tidy()
        before = torch.cuda.memory_reserved()
        side = make()
        side.predict()
        self._tidy()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            side.predict()
        torch.cuda.synchronize()
        return side, (torch.cuda.max_memory_reserved() - before) / 1e6

    def model_times_ms(self, ours: Call, theirs: Call, rounds: int) -> np.ndarray:
        """Between CUDA events around each call, in turn: (2, rounds)."""
        times = np.empty((2, rounds))
        for call in (ours, theirs):
            call()
        for i in range(rounds):
            for j, call in enumerate((ours, theirs)):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                start.record()
                call()
                end.record()
                end.synchronize()
                times[j, i] = start.elapsed_time(end)
        return times

    def launches(self, call: Call) -> dict[str, int]:
        """Counted by CUPTI: what the host asks for, and what the device runs; a graph is one launch of many."""
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            call()
            torch.cuda.synchronize()
        events = profiler.profiler.kineto_results.events()
        return {
            "launches by the host": sum(event.name().startswith(_LAUNCHES) for event in events),
            "kernels and copies": sum(_on_device(event) for event in events),
        }

    @staticmethod
    def _tidy() -> None:
        gc.collect()
        torch.cuda.empty_cache()


def _on_device(event) -> bool:
    return event.device_type() == torch.autograd.DeviceType.CUDA and not event.is_user_annotation()
