"""Durations written as a begin and an end event: one duration event each.

The Chrome format allows both spellings; tools that cut or convert traces write pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfu_doctor.reading.clock import Clock
from mfu_doctor.reading.schema import Begin, Complete, End
from mfu_doctor.units import NS_PER_US


class PairTable:
    """Matches begins and ends by their thread, innermost first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[tuple[Any, Any], list[Begin]] = {}
        self._lone_ends = 0

    @property
    def unmatched(self) -> int:
        """Begins and ends that have no other half."""
        return self._lone_ends + sum(len(stack) for stack in self._open.values())

    @property
    def seen(self) -> bool:
        """Whether there were any begins or ends."""
        return bool(self._open)

    def match(self, events: list[Begin | End]) -> list[Complete]:
        """The durations that end in this part of the file."""
        begins, ends = [], []
        for event in events:
            stack = self._open.setdefault((event.pid, event.tid), [])
            if isinstance(event, Begin):
                stack.append(event)
            elif stack:
                begins.append(stack.pop())
                ends.append(event.ts)
            else:
                self._lone_ends += 1
        # Each time is rounded to its nanosecond before they are subtracted.
        start = self._clock.nanoseconds(np.array([begin.ts for begin in begins]))
        duration = (self._clock.nanoseconds(np.array(ends)) - start) / NS_PER_US
        return [
            Complete(name=b.name, cat=b.cat, pid=b.pid, tid=b.tid, ts=b.ts, dur=us, args=b.args)
            for b, us in zip(begins, duration.tolist(), strict=True)
        ]
