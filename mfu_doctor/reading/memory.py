"""Allocator totals over time, from the `[memory]` events of `profile_memory=True`.

The C++ exporter writes them as events, torch's Python exporter as durations that last to the end of the trace; either
way they are points in time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mfu_doctor.reading.clock import Clock, is_time
from mfu_doctor.reading.schema import MemoryArgs, MemoryEvent
from mfu_doctor.trace import MemorySamples

MEMORY = "[memory]"
_COLUMNS = 4  # time, device, allocated and reserved bytes
_CPU = 0  # c10::DeviceType::CPU
_HOST_DEVICE = -1
_MOST_BYTES = 2.0**53  # more is damage, and not exact
_MOST_DEVICES = 2**15


class MemoryTable:
    """Collects `[memory]` events chunk by chunk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []

    def add(self, events: Iterable[MemoryEvent]) -> None:
        """Append the `[memory]` events that state a total (those of 2021 state none, only their own size)."""
        named = ((e.ts, e.args) for e in events if e.name == MEMORY and is_time(e.ts))
        picked = [(ts, args) for ts, args in named if args is not None and _is_sound(args)]
        if not picked:
            return
        rows = np.empty((len(picked), _COLUMNS), np.int64)
        rows[:, 0] = self._clock.nanoseconds(np.array([ts for ts, _ in picked]))
        rows[:, 1] = [_HOST_DEVICE if args.type == _CPU else int(args.device) for _, args in picked]
        rows[:, 2] = [int(args.allocated) for _, args in picked]
        rows[:, 3] = [int(args.reserved) for _, args in picked]
        self._rows.append(rows)

    def to_bytes(self) -> bytes:
        """What was collected, for `extend`."""
        return b"".join(rows.tobytes() for rows in self._rows)

    def extend(self, collected: bytes) -> None:
        """Append what another table collected from a later part of the file."""
        if collected:
            self._rows.append(np.frombuffer(collected, np.int64).reshape(-1, _COLUMNS))

    def samples(self, origin: int) -> MemorySamples | None:
        """All samples in time order: those of accelerators if there are any, else those of the host.

        Args:
            origin: the file's time that becomes 0, in nanoseconds.
        """
        if not self._rows:
            return None
        rows = np.concatenate(self._rows)
        on_device = rows[:, 1] != _HOST_DEVICE
        if on_device.any():
            rows = rows[on_device]
        rows = rows[np.lexsort(rows[:, ::-1].T)]
        return MemorySamples(
            time=rows[:, 0] - origin,
            device=rows[:, 1].astype(np.int16),
            allocated=rows[:, 2].copy(),
            reserved=rows[:, 3].copy(),
        )


def _is_sound(args: MemoryArgs) -> bool:
    return 0 <= args.allocated < _MOST_BYTES and abs(args.reserved) < _MOST_BYTES and -1 <= args.device < _MOST_DEVICES
