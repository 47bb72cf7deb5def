"""Allocator totals over time, from the `[memory]` events of `profile_memory=True`.

The C++ exporter writes them as events, torch's Python exporter as durations that last to the end of the trace; either
way they are points in time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mfu_doctor.reading.clock import Clock, can_be
from mfu_doctor.reading.schema import MemoryEvent
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
        named = ((e.ts, e.args) for e in events if e.name == MEMORY)
        moments = [
            (ts, args.type, args.device, args.allocated, args.reserved) for ts, args in named if args is not None
        ]
        if moments:
            self.add_moments(np.array(moments, np.float64))

    def add_moments(self, moments: npt.NDArray[np.float64]) -> None:
        """The same of `[memory]` events as numbers: time, type and number of the device, allocated and reserved bytes."""
        moments = moments[_are_sound(moments)]
        if not len(moments):
            return
        rows = np.empty((len(moments), _COLUMNS), np.int64)
        rows[:, 0] = self._clock.nanoseconds(moments[:, 0])
        rows[:, 1] = np.where(moments[:, 1] == _CPU, _HOST_DEVICE, moments[:, 2])
        rows[:, 2:] = moments[:, 3:]
        self._rows.append(rows)

    def extend(self, later: MemoryTable) -> None:
        """Append what another table collected from a later part of the file."""
        self._rows += later._rows

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


def _are_sound(moments: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    time, _, device, allocated, reserved = moments.T
    sound: npt.NDArray[np.bool_] = can_be(time) & (allocated >= 0) & (allocated < _MOST_BYTES)
    sound &= (np.abs(reserved) < _MOST_BYTES) & (device >= -1) & (device < _MOST_DEVICES)
    return sound
