"""Moments in the run, and the seconds between two of them, without ever waiting inside a step.

On the host a moment is `perf_counter_ns`. If CUDA is in use, the host runs ahead of the device, so a CUDA event is recorded too
and read much later. CUDA is never initialised here.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct

from mfu_doctor.units import NS_PER_S

_MS_PER_S = 1_000  # torch.cuda.Event.elapsed_time is in milliseconds


def cuda_in_use() -> bool:
    """Whether this process has initialised CUDA; asking does not initialise it."""
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def capturing_graph() -> bool:
    """Whether a CUDA graph is being captured on the current stream: nothing may be recorded or synchronised then."""
    import torch

    return cuda_in_use() and bool(torch.cuda.is_current_stream_capturing())


class Mark(Struct, frozen=True):
    """A moment on the main thread: host nanoseconds, and a CUDA event if CUDA is in use."""

    host_ns: int
    event: Any = None  # torch.cuda.Event


def mark() -> Mark:
    """Take the time now."""
    if not cuda_in_use():
        return Mark(time.perf_counter_ns())
    import torch

    event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return Mark(time.perf_counter_ns(), event)


def seconds_between(start: Mark, end: Mark) -> float:
    """Seconds from one mark to another: on the device if both were recorded there, else on the host.

    Waits for the device to pass `end`: call it outside steps.
    """
    if start.event is None or end.event is None:
        return (end.host_ns - start.host_ns) / NS_PER_S
    end.event.synchronize()
    return float(start.event.elapsed_time(end.event)) / _MS_PER_S
