"""The device that this process works on, and the most memory that it used; asking never sets CUDA up."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from typing import Any

from mfu_doctor.capture.device.current_devices import indices_in_use
from mfu_doctor.capture.loop.stopwatch import cuda_in_use
from mfu_doctor.trace import DeviceProperties

_KB = 1024  # ru_maxrss counts these on Linux, bytes on macOS


def device_in_use() -> DeviceProperties | None:
    """The GPU of this process; None while it uses none."""
    if not cuda_in_use():
        return None
    import torch

    index = indices_in_use()[0]
    found = torch.cuda.get_device_properties(index)
    return DeviceProperties(
        index=index,
        name=found.name,
        compute_major=found.major,
        compute_minor=found.minor,
        sms=found.multi_processor_count,
        memory_bytes=found.total_memory,
    )


def memory_peak() -> int | None:
    """The most bytes that tensors took on the GPU at once; without a GPU, that this process had resident. Takes some 50 us."""
    if not cuda_in_use():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * _KB
    import torch

    stats: Mapping[str, Any] = torch.cuda.memory_stats(indices_in_use()[0])
    return stats.get("allocated_bytes.all.peak")
