"""What a call costs besides its time: operations dispatched, kernels launched, memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own notes

Call = Callable[[], object]
_MEMORY = "[memory]"
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
        if event.name() == _MEMORY:
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


@dataclass(frozen=True)
class Launches:
    """Of one call: what the host asks for, and what the device then runs (kernels, copies, fills)."""

    host: int
    device: int


def launches(call: Call) -> Launches:
    """Counted by CUPTI; a CUDA graph is one launch of many kernels."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        call()
        torch.cuda.synchronize()
    events = profiler.profiler.kineto_results.events()
    on_device = sum(event.device_type() == torch.autograd.DeviceType.CUDA for event in events)
    return Launches(sum(event.name().startswith(_LAUNCHES) for event in events), on_device)


def device_peak_mb(make: Callable[[], Call]) -> tuple[Call, float]:
    """What `make` returns, called twice, and the most device memory that it reserved (weights, graphs and all)."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    call = make()
    gc.collect()
    torch.cuda.empty_cache()  # what was needed to make it and is not any more
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        call()
    torch.cuda.synchronize()
    return call, (torch.cuda.max_memory_reserved() - before) / 1e6


def events_ms(call: Call, rounds: int) -> list[float]:
    """Milliseconds of each call between CUDA events around it, so without the host's own work before and after."""
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times
