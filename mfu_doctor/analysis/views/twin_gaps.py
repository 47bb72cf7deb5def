"""The gaps of the window with stacks that are like gaps of the timed window: those between the same operators.

Recording stacks makes every call of Python longer, and ours too that look into the model there. All Python of that window is then
mostly calls. What fills one gap is as dominant there as it is without stacks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.views.frame_threads import thread_of
from mfu_doctor.analysis.views.source_lines import UserFrames
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.trace import Trace

Int64 = npt.NDArray[np.int64]

_OURS = "mfu_doctor/"


def twin_gaps(trace: Trace, twin: Int64, recorded: Trace, where: Intervals, within: Intervals) -> Intervals:
    """For host time between operators of `trace`, the time between their twins; empty if they have none.

    A gap around the border of two steps is at the end and at the beginning of the step with stacks.

    Args:
        trace: the trace that is analysed.
        twin: for each of its events the row of its twin in `recorded`, or -1; of the thread that is asked about.
        recorded: the trace with the window with stacks.
        where: the time.
        within: the steps that were recorded with stacks.
    """
    rows = np.flatnonzero(twin >= 0)
    if not len(rows) or not where.count or not within.count:
        return EMPTY
    by_end = rows[np.argsort(trace.events.end[rows], kind="stable")]
    by_start = rows[np.argsort(trace.events.start[rows], kind="stable")]
    before = np.searchsorted(trace.events.end[by_end], where.start, side="right") - 1
    after = np.searchsorted(trace.events.start[by_start], where.end, side="left")
    lo, hi = int(within.start.min()), int(within.end.max())
    begin = np.where(before >= 0, recorded.events.end[twin[by_end[np.maximum(before, 0)]]], lo)
    last = len(by_start) - 1
    end = np.where(after <= last, recorded.events.start[twin[by_start[np.minimum(after, last)]]], hi)
    around = begin > end  # of the border of two steps
    starts = np.concatenate((begin, np.full(int(around.sum()), lo, np.int64)))
    ends = np.concatenate((np.where(around, hi, end), end[around]))
    return union(starts, ends)


def recorders_own(trace: Trace, frames: UserFrames, track: int) -> Intervals:
    """When a function of ours runs on the thread, or what it calls, and no function of the program that is called by it."""
    ours = np.array([n for n, name in enumerate(trace.names) if name.startswith(_OURS)], np.int64)
    rows = trace.frames(np.concatenate((ours, np.array(list(frames.places), np.int64))))
    thread = thread_of(trace, rows[trace.events.track[rows] == track])
    if not len(ours) or not thread.count:
        return EMPTY
    edges = distinct(np.concatenate((thread.start, thread.end)))
    inner = thread.innermost(edges[:-1])
    mine = (inner >= 0) & np.isin(thread.named(inner), ours)
    return union(edges[:-1][mine], edges[1:][mine])
