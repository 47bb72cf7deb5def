"""Where the steps of a loop end, from the steps of its optimizers.

Several that step in a row (one per part of the model) end one step together. If they take turns (three updates of a critic, one
of a generator), a step is a turn. Optimizers of one class look alike; what tells them apart is the backward pass before each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_SPAN, rows_matching
from mfu_doctor.analysis.views.training_thread import fetch_marks, optimizer_marks
from mfu_doctor.arrays.cycles import cycle_at_end
from mfu_doctor.arrays.intervals import union
from mfu_doctor.trace import Category, Trace

Int64 = npt.NDArray[np.int64]

_REGULAR = 0.8  # share of the updates that must follow the cycle


class OptimizerTurns(Struct, frozen=True):
    """When steps end in nanoseconds, shape (k,), and how many updates each has."""

    ends: Int64
    updates: int = 1


def optimizer_turns(trace: Trace) -> OptimizerTurns:
    """The ends of steps; empty if the trace has no optimizer steps."""
    rows = optimizer_marks(trace)
    if not len(rows):
        return OptimizerTurns(np.zeros(0, np.int64))
    begins, ends = _apart(trace, rows)
    cycle = _cycle(trace, rows, begins, ends)
    if cycle > 1:
        return OptimizerTurns(ends[::-1][::cycle][::-1], cycle)
    names = trace.events.name[rows]
    anchor = rows[names == np.bincount(names).argmax()]  # the one that steps most often
    return OptimizerTurns(_apart(trace, anchor)[1])


def _cycle(trace: Trace, rows: Int64, begins: Int64, ends: Int64) -> int:
    """How many updates make a turn; 1 if they do not take turns, or if each has a batch of its own."""
    events = trace.events
    fetches = np.sort(events.start[fetch_marks(trace)])
    fed = np.diff(np.searchsorted(fetches, ends)) > 0
    if fed.all():
        return 1
    nodes = rows_matching(trace, NODE_CALL, trace.rows(Category.CPU_OP))
    nodes = nodes[np.argsort(events.start[nodes], kind="stable")]
    first, last = np.searchsorted(events.start[nodes], ends[:-1]), np.searchsorted(events.start[nodes], begins[1:])
    marks = np.searchsorted(events.start[rows], begins), np.searchsorted(events.start[rows], ends)
    keys = [
        (events.name[nodes[a:b]].tobytes(), events.name[rows[c:d]].tobytes())
        for a, b, c, d in zip(first, last, marks[0][1:], marks[1][1:], strict=True)
    ]
    length = len(cycle_at_end(keys))
    if not length:
        return 1
    follow = [a == b for a, b in zip(keys, keys[length:], strict=False)]
    return length if sum(follow) >= _REGULAR * len(follow) else 1


def _apart(trace: Trace, rows: Int64) -> tuple[Int64, Int64]:
    """When updates begin and end; several in a row or inside each other are one."""
    events = trace.events
    ops = trace.rows(Category.CPU_OP)
    spans = rows_matching(trace, OPTIMIZER_SPAN, trace.rows(Category.ANNOTATION, Category.CPU_OP))
    updating = union(events.start[spans], events.end[spans])
    work = events.start[ops[~updating.contains(events.start[ops])]]
    reach = np.maximum.accumulate(events.end[rows])
    if not len(work):
        return events.start[rows], reach
    between = np.searchsorted(work, events.start[rows][1:]) - np.searchsorted(work, reach[:-1])
    begin, end = np.insert(between > 0, 0, True), np.append(between > 0, True)
    return events.start[rows][begin], reach[end]
