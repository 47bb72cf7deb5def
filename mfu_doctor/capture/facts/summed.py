"""Numbers of all ranks added up, by one small collective that the user asked for."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor.capture.device.current_devices import indices_in_use
from mfu_doctor.capture.loop.stopwatch import cuda_in_use

_ON_DEVICE = ("nccl", "rccl")  # backends that add up nothing in the host's memory


def summed(values: Sequence[float]) -> tuple[float, ...]:
    """Each value added up over all ranks: all of them must call this. The values themselves if this process is alone."""
    import torch
    import torch.distributed as job

    if not (job.is_available() and job.is_initialized()):
        return tuple(values)
    on_device = cuda_in_use() and any(name in job.get_backend() for name in _ON_DEVICE)
    # The device that this rank works on, which need not be the current one.
    told = torch.tensor(list(values), dtype=torch.float64, device=f"cuda:{indices_in_use()[0]}" if on_device else "cpu")
    job.all_reduce(told)
    return tuple(told.tolist())
