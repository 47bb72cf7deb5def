"""What long steps contain besides a usual step: an evaluation, a rollout, a batch that came late.

The operators of a long step are laid beside those of the median one. What begins alike and what ends alike is the usual step; the
operators that are left between are work that only this step has. A machine that is slow for a while makes the same operators
longer, so it leaves none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.result.step import LONG
from mfu_doctor.trace import Category, Trace

Rows = npt.NDArray[np.int64]

# Of the usual step's operators, those that a long one must have too before what is between counts as more than it.
_SAME = 0.9


def extra_work(trace: Trace, steps: Steps, host: Host) -> Intervals:
    """Host time of the training thread in operators, and between them, that usual steps do not have.

    Args:
        trace: the trace.
        steps: its steps; long ones are compared with the median one.
        host: what the host threads did.
    """
    rows = _outermost(trace, host)
    start = trace.events.start[rows]
    names = trace.events.name[rows]

    def inside(step: int) -> slice:
        lo, hi = np.searchsorted(start, (steps.host_start[step], steps.host_end[step]))
        return slice(int(lo), int(hi))

    usual = names[inside(steps.median)]
    found = [_between(trace, rows[inside(i)], usual) for i in np.flatnonzero(steps.long).tolist()]
    blocks = [block for block in found if block is not None]
    if not blocks:
        return EMPTY
    return union(np.array([a for a, _ in blocks], np.int64), np.array([b for _, b in blocks], np.int64))


def late_batches(trace: Trace, host: Host) -> Intervals:
    """What long fetches take beyond the median one."""
    rows = host.fetch_rows
    if not len(rows):
        return EMPTY
    start, end = trace.events.start[rows], trace.events.end[rows]
    usual = int(np.median(end - start))
    late = end - start > LONG * usual
    return union(start[late] + usual, end[late])


def _outermost(trace: Trace, host: Host) -> Rows:
    """Operators and fetches of the training thread that no other of them encloses, in time order."""
    rows = distinct(np.concatenate((trace.rows(Category.CPU_OP), host.fetch_rows)))
    rows = rows[trace.events.track[rows] == host.main_track] if host.main_track is not None else rows
    rows = rows[np.argsort(trace.events.start[rows], kind="stable")]
    if not len(rows):
        return rows
    reach = np.maximum.accumulate(trace.events.end[rows])
    outer: Rows = rows[np.append(True, trace.events.start[rows][1:] >= reach[:-1])]
    return outer


def _between(trace: Trace, rows: Rows, usual: npt.NDArray[np.integer]) -> tuple[int, int] | None:
    """From the first to the last operator that a step has more than the usual one; None if it has no such block."""
    names = trace.events.name[rows]
    before = _alike(names, usual)
    after = min(_alike(names[::-1], usual[::-1]), len(usual) - before)
    if before + after < _SAME * len(usual) or len(rows) <= before + after:
        return None
    extra = rows[before : len(rows) - after]
    return int(trace.events.start[extra[0]]), int(trace.events.end[extra[-1]])


def _alike(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> int:
    """How many leading elements are equal."""
    size = min(len(a), len(b))
    return int(np.argmin(np.append(a[:size] == b[:size], False)))
