"""Which operator encloses which: the parent of each operator, annotation and runtime call on its thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.compiled import STACKS, core
from mfu_doctor.trace import Category, Trace
from mfu_doctor.units import NS_PER_US

Rows = npt.NDArray[np.int64]

# What lies deeper is a child of the span at this depth. No program nests so far; events that lost their times can, tens of
# thousands deep, and all that climbs the tree would take that many rounds.
DEEPEST = 512
_SLACK_NS = 2 * NS_PER_US  # old traces have whole microseconds; a child may outlive its parent by what rounding adds


class OpTree(Struct, frozen=True):
    """`parent[row]` is the event row of the enclosing operator, annotation or call on the same thread, else -1.

    Shape (number of events,). Python frames, overhead and device events are not nested (parent -1).
    """

    parent: npt.NDArray[np.int32]

    def ancestors(self, row: int) -> list[int]:
        """Rows from the parent of `row` outwards."""
        out: list[int] = []
        up = int(self.parent[row])
        while up >= 0:
            out.append(up)
            up = int(self.parent[up])
        return out

    def below(self, rows: npt.NDArray[np.int64], marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether each of these rows has a marked ancestor; `marked` is of shape (number of events,)."""
        found = np.zeros(len(rows), np.bool_)
        up = self.parent[rows].astype(np.int64)
        while (up >= 0).any():
            found |= (up >= 0) & marked[np.maximum(up, 0)]
            up = np.where(up >= 0, self.parent[np.maximum(up, 0)], -1)
        return found


def nest_ops(trace: Trace) -> OpTree:
    """Find the parent of each operator, annotation and runtime call by time containment on its thread.

    Events are sorted by start, longer first, so one stack per thread suffices. A parent is popped when it ends at or before
    the next start: real traces have children that outlive their parent by a nanosecond or two, and they stay children.
    Only these categories are nested (a tenth to a half of a trace): Python frames are left to those who need them.
    A span that begins shortly before its neighbour ends is no child of it: if steps are counted by the optimizer, a step
    mark begins inside the optimizer's span of the step before.
    """
    events = trace.events
    parent = np.full(len(events), -1, np.int32)
    rows = trace.rows(Category.CPU_OP, Category.ANNOTATION, Category.RUNTIME, Category.DRIVER)
    for _, on_track in groups(events.track[rows]):
        mine = _outer_first(trace, rows[on_track])
        parent[mine] = parents(mine, events.start[mine], events.end[mine], events.category[mine] == Category.ANNOTATION)
    return OpTree(parent)


def _outer_first(trace: Trace, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Among events with equal start and end (common if times are whole microseconds): labels, then operators, then calls."""
    events = trace.events
    start, end = events.start[rows], events.end[rows]
    if not ((np.diff(start) == 0) & (np.diff(end) == 0)).any():
        return rows
    depth = np.zeros(256, np.int8)
    depth[[Category.CPU_OP, Category.RUNTIME, Category.DRIVER]] = (1, 2, 3)
    return rows[np.lexsort((depth[events.category[rows]], -end, start))]


def parents(rows: Rows, start: Rows, end: Rows, spans: npt.NDArray[np.bool_]) -> Rows:
    """The event of one thread that encloses each, -1 if none does.

    Args:
        rows: the events, in order of their start, outer ones first.
        start: when each began.
        end: when each ended.
        spans: which of them are annotations.
    """
    compiled = core(STACKS)
    if compiled is None:
        return parents_in_python(rows, start, end, spans)
    return np.asarray(compiled.parents(rows, start, end, spans.view(np.uint8), DEEPEST, _SLACK_NS))


def parents_in_python(rows: Rows, start: Rows, end: Rows, spans: npt.NDArray[np.bool_]) -> Rows:
    """The same by Python. A plain loop: it is as fast as numpy's depth trick here and exact if that is not."""
    stack_row: list[int] = []
    stack_end: list[int] = []
    found: list[int] = []
    for row, begin, finish, span in zip(rows.tolist(), start.tolist(), end.tolist(), spans.tolist(), strict=True):
        while stack_end and (stack_end[-1] <= begin or (span and finish > stack_end[-1] + _SLACK_NS)):
            stack_end.pop()
            stack_row.pop()
        found.append(stack_row[min(len(stack_row), DEEPEST) - 1] if stack_row else -1)
        stack_row.append(row)
        stack_end.append(finish)
    return np.array(found, np.int64)
