"""The GPUs that this process really uses, by the UUIDs that CUDA gives them.

The device sampler needs them: NVML lists every card of the machine, and a rank must report its own. Asking never initialises
CUDA, so before the script does there is no answer.
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.capture.loop.stopwatch import cuda_in_use


def current_devices() -> tuple[str, ...] | None:
    """UUIDs (torch's, without a prefix) of the devices in use, most memory first; None while they are not known.

    Call it on the main thread, for each thread has a current device of its own. Devices in use are those whose memory
    torch's allocator holds, for a script may place its tensors on a device that it never makes the current one; where
    another allocator does not report it, it is the current device.
    """
    if not cuda_in_use():
        return None
    import torch

    uuids = [_uuid(torch.cuda.get_device_properties(index)) for index in indices_in_use()]
    return tuple(uuid for uuid in uuids if uuid is not None) or None


def indices_in_use() -> tuple[int, ...]:
    """Numbers of the devices in use, most memory first; CUDA must be in use."""
    import torch

    return _holding_memory() or (torch.cuda.current_device(),)


def _holding_memory() -> tuple[int, ...]:
    import torch

    if torch.cuda.get_allocator_backend() != "native":  # others may set a device up when they are asked about it
        return ()
    held = {index: torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count())}
    return tuple(sorted((index for index in held if held[index]), key=lambda index: -held[index]))


def _uuid(properties: Any) -> str | None:
    found = getattr(properties, "uuid", None)  # since torch 2.4
    return None if found is None else str(found)
