"""Device work: what ran on the accelerator, or on a CPU-only trace what its operators did themselves.

Everything downstream (steps, split, FLOPs, replay) looks at this one table, so that a CPU run and a GPU run are accounted
by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.nesting import OpTree
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.trace import Trace

COMPUTE, COMMUNICATION, COPY = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Activity:
    """Device operations sorted by start; arrays of shape (n,).

    On a device each entry is one kernel, memcpy or memset. On a CPU-only trace each entry is one stretch of an operator's
    self time, so one operator (`row`) can have several entries.
    """

    is_device: bool
    device: int | None  # the accelerator judged: the busiest one of the trace
    row: npt.NDArray[np.int64]  # event row
    start: npt.NDArray[np.int64]  # ns
    end: npt.NDArray[np.int64]  # ns
    kind: npt.NDArray[np.uint8]  # COMPUTE, COMMUNICATION or COPY
    track: npt.NDArray[np.int16]  # index into Trace.tracks: the stream (or thread)

    @property
    def count(self) -> int:
        """Number of entries."""
        return len(self.row)

    def busy(self, *kinds: int) -> Intervals:
        """Union of the entries of these kinds (all kinds if none are given)."""
        if not kinds:
            return union(self.start, self.end)
        mask = np.isin(self.kind, kinds)
        return union(self.start[mask], self.end[mask])
