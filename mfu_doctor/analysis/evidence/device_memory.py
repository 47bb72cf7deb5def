"""How full the memory of the device was: what a larger batch has room in."""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.analysis.run import Run

# Share that a larger batch may fill; the rest is for fragmentation and the context.
USABLE_SHARE = 0.9


class DeviceMemory(Struct, frozen=True):
    """The peak of the allocator, and the memory of the device, in bytes."""

    peak: int
    total: int

    @property
    def used(self) -> float:
        """The peak as a share of all."""
        return self.peak / self.total


def device_memory(run: Run) -> DeviceMemory | None:
    """How full it was; None if that was not recorded."""
    memory = run.facts.memory if run.facts is not None else None
    if memory is None or not memory.allocated_peak_bytes or not memory.total_bytes:
        return None
    return DeviceMemory(memory.allocated_peak_bytes, memory.total_bytes)
