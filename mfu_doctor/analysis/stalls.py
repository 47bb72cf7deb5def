"""Operators that something stopped while they were recorded, set to what they take in the other steps.

A live CPU run knows how long its steps take without a profiler. A recording that took longer often did so in a few operators,
each in few of its steps: the profiler's buffers make the heap grow under a large tensor, another process takes the processor.
Fixes of those operators would look far better than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.model import MARK, Calls, Timeline
from mfu_doctor.analysis.replay import walk
from mfu_doctor.intervals import EMPTY, Intervals
from mfu_doctor.trace import Trace
from mfu_doctor.units import NS_PER_S

Rows = npt.NDArray[np.int64]

# What takes so many times what it takes in other steps, and longer by this share of the step, was stopped.
_TIMES = 2.0
_SHARE = 0.01
_RARE = 0.4  # in more of the alike steps than this it is what the run does
_FEWEST = 3  # steps that do the same thing: with fewer there is no telling which of them is usual


def without_stalls(timeline: Timeline, trace: Trace, timed_s: Sequence[float], own: Intervals = EMPTY) -> Timeline:
    """A host-only timeline without what stopped its operators in steps that were longer than any is without the profiler.

    Args:
        timeline: as recorded; unchanged if it has a device.
        trace: the trace it was built from.
        timed_s: un-profiled steps in seconds, not empty.
        own: what the run does for itself however rarely; what overlaps it was not stopped by anything else.
    """
    calls, mean_ns = timeline.calls, fmean(timed_s) * NS_PER_S
    if len(timeline.operations.entry) or timeline.measured_ns <= mean_ns:
        return timeline
    step, longer = np.cumsum(calls.row == MARK), _longer_than_any(calls, timed_s)
    stoppable = longer[step] & (own.overlap_with(calls.start, calls.end) == 0)
    cost = calls.cost.copy()
    real = np.flatnonzero(calls.row >= 0)
    for track in np.unique(trace.events.track[calls.row[real]]):
        mine = real[trace.events.track[calls.row[real]] == track]
        for alike in _alike(mine, step[mine], trace.events.name[calls.row[mine]]):
            usual = np.partition(cost[alike], (len(alike) - 1) // 2, axis=0)[(len(alike) - 1) // 2]
            stopped = (cost[alike] > _TIMES * usual) & (cost[alike] - usual > _SHARE * mean_ns)
            stopped &= stopped.mean(axis=0) <= _RARE
            cost[alike] = np.where(stopped & stoppable[alike], usual, cost[alike])
    changed = replace(timeline, calls=replace(calls, cost=cost))
    measured = timeline.measured_ns * walk(changed) / walk(timeline)
    return replace(changed, measured_ns=measured, usual_ns=min(timeline.usual_ns, measured))


def _longer_than_any(calls: Calls, timed_s: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Whether each recorded step is longer than the longest un-profiled one, the profiler's share allowed for.

    By how many step marks lie before it: the first is what was recorded before the judged steps, the last what follows them.
    """
    length = np.diff(calls.start[calls.row == MARK])
    slower = max(float(length.min()) / (min(timed_s) * NS_PER_S), 1.0)
    return np.concatenate(([False], length > max(timed_s) * NS_PER_S * slower, [False]))


def _alike(mine: Rows, step: Rows, name: npt.NDArray[np.int32]) -> list[Rows]:
    """Steps of one thread that do the same: for each kind of them the calls, shape (steps, calls in one)."""
    edges = np.flatnonzero(np.diff(step)) + 1
    parts = zip(np.split(mine, edges), np.split(name, edges), strict=True)
    keyed = sorted(((names.tobytes(), calls) for calls, names in parts), key=lambda part: part[0])
    kinds = [[calls for _, calls in same] for _, same in groupby(keyed, key=lambda part: part[0])]
    return [np.array(kind) for kind in kinds if len(kind) >= _FEWEST and len(kind[0])]
