"""Where each step begins and ends on the device.

A GPU runs behind the host, so host-side step marks cut the wrong kernels (accounting on them is up to 3x off). Step i is
``[start of the first kernel launched by step i, start of the first kernel launched by step i+1)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Steps:
    """Judged step windows; arrays of shape (k,), windows are contiguous and half-open, in nanoseconds.

    `host_start`/`host_end` are the host-side marks (equal to the window on a CPU-only trace).
    """

    number: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    host_start: npt.NDArray[np.int64]
    host_end: npt.NDArray[np.int64]
    steady: npt.NDArray[np.bool_]  # False for a first step that is warm-up; at least one step is steady
    source: str  # ProfilerStep, optimizer, periodicity, whole trace
    note: str | None = None  # what the reader of the report must know about the choice

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.number)

    @property
    def duration(self) -> npt.NDArray[np.int64]:
        """Length of each window in nanoseconds."""
        return self.end - self.start

    @property
    def median(self) -> int:
        """Index of the steady step whose duration is the (lower) median: the step that is drawn and split."""
        order = sorted(np.flatnonzero(self.steady).tolist(), key=lambda i: int(self.end[i] - self.start[i]))
        return int(order[(len(order) - 1) // 2])
