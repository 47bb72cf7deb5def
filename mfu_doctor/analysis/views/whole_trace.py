"""A trace without any steps: it is judged from its first to its last work, and what lies before and after is named.

A recording often begins long before the work that it is about: a stray copy, then a server that waits for a request, or a queue
that other work holds. Counted as a part of the step, this would be nearly all of it.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Trace

# A pause that is longer than everything else together, with less than this share of the work on one side of it, ends the work.
_STRAY = 0.01


def extent_of_work(activity: Activity) -> tuple[int, int]:
    """From the first to the last nanosecond of the trace's work, stray work far away from the rest left out; half-open.

    Args:
        activity: device work that takes time.
    """
    busy = activity.busy()
    total = busy.total_ns
    while busy.count > 1:
        pause = busy.start[1:] - busy.end[:-1]
        at = int(np.argmax(pause))
        before = int(busy.lengths[: at + 1].sum())
        stray = min(before, busy.total_ns - before)
        if 2 * pause[at] <= busy.end[-1] - busy.start[0] or stray > _STRAY * total:
            break
        kept = slice(at + 1, None) if stray == before else slice(0, at + 1)
        busy = Intervals(busy.start[kept], busy.end[kept])
    return int(busy.start[0]), int(busy.end[-1])


def left_out(trace: Trace, start: int, end: int) -> tuple[int, int]:
    """What a trace has before and after a window on its clock, in nanoseconds."""
    first, last = int(trace.events.start.min()), int(trace.events.end.max())
    return max(start - first, 0), max(last - end, 0)
