"""Operators that something stopped while they were recorded, set to what they take in the other steps.

A live CPU run knows how long its steps take without a profiler. A recording that took longer often did so in a few operators,
each in one step only: the profiler's buffers make the heap grow under a large tensor, another process takes the processor.
Fixes of those operators would look far better than they are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.model import MARK, Timeline
from mfu_doctor.analysis.replay import walk
from mfu_doctor.trace import Trace

Rows = npt.NDArray[np.int64]

# What takes so many times what it takes in other steps, and longer by this share of the step, was stopped.
_TIMES = 2.0
_SHARE = 0.01
_FEWEST = 3  # steps that do the same thing: with fewer there is no telling which of them is usual


def without_stalls(timeline: Timeline, trace: Trace, step_ns: float) -> Timeline:
    """A host-only timeline without what stopped its operators in some steps.

    Args:
        timeline: as recorded; unchanged if it has a device.
        trace: the trace it was built from.
        step_ns: the un-profiled step in nanoseconds.
    """
    calls = timeline.calls
    if len(timeline.operations.entry) or timeline.measured_ns <= step_ns:
        return timeline
    step = np.cumsum(calls.row == MARK)
    cost = calls.cost.copy()
    real = np.flatnonzero(calls.row >= 0)
    for track in np.unique(trace.events.track[calls.row[real]]):
        mine = real[trace.events.track[calls.row[real]] == track]
        for alike in _alike(mine, step[mine], trace.events.name[calls.row[mine]]):
            usual = np.partition(cost[alike], (len(alike) - 1) // 2, axis=0)[(len(alike) - 1) // 2]
            stopped = (cost[alike] > _TIMES * usual) & (cost[alike] - usual > _SHARE * step_ns)
            cost[alike] = np.where(stopped, usual, cost[alike])
    changed = replace(timeline, calls=replace(calls, cost=cost))
    measured = timeline.measured_ns * walk(changed) / walk(timeline)
    return replace(changed, measured_ns=measured, usual_ns=min(timeline.usual_ns, measured))


def _alike(mine: Rows, step: Rows, name: npt.NDArray[np.int32]) -> list[Rows]:
    """Steps of one thread that do the same: for each kind of them the calls, shape (steps, calls in one)."""
    edges = np.flatnonzero(np.diff(step)) + 1
    parts = zip(np.split(mine, edges), np.split(name, edges), strict=True)
    keyed = sorted(((names.tobytes(), calls) for calls, names in parts), key=lambda part: part[0])
    kinds = [[calls for _, calls in same] for _, same in groupby(keyed, key=lambda part: part[0])]
    return [np.array(kind) for kind in kinds if len(kind) >= _FEWEST and len(kind[0])]
