"""The judged steps: what happens inside them is evidence, and per step is how it is told.

Warm-up steps and what surrounds the steps would blur every count a rule states, so rules look through this one window.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.vocabulary import ids_matching
from mfu_doctor.intervals import Intervals, union

if TYPE_CHECKING:
    from mfu_doctor.analysis.run import Run

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Steady:
    """The steady steps of a run as sets of time, in nanoseconds.

    Attributes:
        device: their windows on the device.
        host: their windows on the host (the same on a CPU-only run).
        count: how many they are.
        step_ns: their mean length on the device.
    """

    device: Intervals
    host: Intervals
    count: int
    step_ns: float

    def issued(self, run: Run, rows: Rows) -> Rows:
        """Those host-side event rows that begin in a steady step."""
        return rows[self.host.contains(run.trace.events.start[rows])]

    def entries(self, run: Run) -> Mask:
        """Which entries of the activity table begin in a steady step, shape (n,)."""
        return self.device.contains(run.activity.start)

    def per_step(self, total: float) -> float:
        """A total over the steady steps as a mean per step."""
        return total / self.count


def steady_of(run: Run) -> Steady:
    """The steady steps of a run."""
    steps, keep = run.steps, run.steps.steady
    return Steady(
        union(steps.start[keep], steps.end[keep]),
        union(steps.host_start[keep], steps.host_end[keep]),
        int(keep.sum()),
        float(steps.duration[keep].mean()),
    )


def under(run: Run, rows: Rows, pattern: re.Pattern[str]) -> Rows:
    """For each row the nearest enclosing row on its thread whose name matches, else -1; shape of `rows`."""
    named = np.zeros(len(run.trace.names) + 1, np.bool_)
    named[ids_matching(run.trace, pattern)] = True
    hit = named[run.trace.events.name]
    found = np.full(len(rows), -1, np.int64)
    up = np.where(rows >= 0, run.ops.parent[np.maximum(rows, 0)], -1).astype(np.int64)
    while (up >= 0).any():
        reached = (up >= 0) & (found < 0) & hit[np.maximum(up, 0)]
        found[reached] = up[reached]
        up = np.where((up >= 0) & (found < 0), run.ops.parent[np.maximum(up, 0)], -1)
    return found


def outermost(run: Run, rows: Rows) -> Rows:
    """Those host rows that no other of them encloses (same thread; rows in time order)."""
    kept = np.ones(len(rows), np.bool_)
    for track in np.unique(run.trace.events.track[rows]):
        mine = np.flatnonzero(run.trace.events.track[rows] == track)
        reach = np.maximum.accumulate(run.trace.events.end[rows[mine]])
        kept[mine[1:]] = run.trace.events.start[rows[mine]][1:] >= reach[:-1]
    return rows[kept]


def spans(run: Run, rows: Rows) -> Intervals:
    """The time that these rows cover."""
    return union(run.trace.events.start[rows], run.trace.events.end[rows])
