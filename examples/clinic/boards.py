"""What the boards of the clinic and of its jobs share."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from statistics import median

# glibc gives a step's activations back to the system and faults them in again at the next step, except while a profiler's buffers
# lie above them in the heap. On a CPU that is a second fault beside the planted one, and it comes and goes: keep the memory.
KEEP_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**32 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**32 - 1)}


def spread_of(sizes: list[float]) -> str:
    """Of sorted sizes."""
    return f"median {median(sizes):.1%}, 90th percentile {sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)]:.1%}"


def machine() -> str:
    """The machine in a line."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cpu = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if text.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}"
