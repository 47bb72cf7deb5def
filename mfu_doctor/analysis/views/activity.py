"""Device work: what ran on the accelerator, or in a CPU-only trace the self time of the operators.

Steps, time breakdown, FLOPs and replay all use this one table, so that the same code handles a CPU run and a GPU run.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import (
    COMMUNICATION_KERNEL,
    COMMUNICATION_OP,
    FETCH,
    LABEL,
    ids_matching,
    rows_matching,
)
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.analysis.views.training_thread import training_threads
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.compiled import STACKS, core
from mfu_doctor.trace import DEVICE_CATEGORIES, Category, Trace
from mfu_doctor.units import NS_PER_US

Rows = npt.NDArray[np.int64]

COMPUTE, COMMUNICATION, COPY = 0, 1, 2
# Between two operators of a thread that waits for nothing, with Python between them.
_PAUSE_NS = 100 * NS_PER_US
_MOST_OPEN = 64  # collectives that are under way at once


class Activity(Struct, frozen=True):
    """Device operations sorted by start; arrays of shape (n,).

    On a device each entry is one kernel, memcpy or memset. On a CPU-only trace each entry is one stretch of an operator's
    self time, so one operator (`row`) can have several entries.
    """

    is_device: bool
    device: int | None  # the analysed accelerator: the busiest one of the trace
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


def device_activity(trace: Trace, ops: OpTree) -> Activity:
    """Device operations of the busiest accelerator; without any, the self time of operators on the threads that train."""
    rows = trace.rows(*DEVICE_CATEGORIES)
    if not len(rows):
        return _cpu_activity(trace, ops)
    events = trace.events
    of_track = np.array([-1 if t.device is None else t.device for t in trace.tracks], np.int64)
    device_of = of_track[events.track[rows]]
    busy = np.bincount(np.maximum(device_of, 0), weights=events.lasting(rows))
    device = int(np.argmax(busy))
    rows = rows[device_of == device]
    category = events.category[rows]
    kind = np.full(len(rows), COPY, np.uint8)
    kind[category == Category.KERNEL] = COMPUTE
    communication = np.isin(events.name[rows], ids_matching(trace, COMMUNICATION_KERNEL))
    kind[communication & (category == Category.KERNEL)] = COMMUNICATION
    return Activity(True, device, rows, events.start[rows], events.end[rows], kind, events.track[rows])


def _cpu_activity(trace: Trace, ops: OpTree) -> Activity:
    """Self time of operators that are not part of a data fetch, on the threads that train."""
    rows = training_ops(trace)
    label = ids_matching(trace, LABEL)
    rows = rows[~np.isin(trace.events.name[rows], label)]
    rows = rows[~ops.below(rows, trace.named(ids_matching(trace, FETCH)))]
    started, ended = trace.events.start[rows], trace.events.end[rows]
    pieces = [self_time(rows[mine], started[mine], ended[mine]) for _, mine in groups(trace.events.track[rows])]
    pieces.append(_host_collectives(trace, union(trace.events.start[rows], trace.events.end[rows])))
    merged = np.concatenate(pieces, axis=1)
    row, start, end = merged[:, np.argsort(merged[1], kind="stable")]
    communication = np.isin(trace.events.name[row], ids_matching(trace, COMMUNICATION_OP))
    kind = np.where(communication, COMMUNICATION, COMPUTE).astype(np.uint8)
    return Activity(False, None, row, start, end, kind, trace.events.track[row])


def _host_collectives(trace: Trace, busy: Intervals) -> npt.NDArray[np.int64]:
    """Collectives of gloo, MPI and similar, which run on threads of their own as annotations: (3, k) of row, start, end."""
    rows = rows_matching(trace, COMMUNICATION_OP, trace.rows(Category.ANNOTATION))
    start, end = trace.events.start[rows], trace.events.end[rows]
    return np.stack((rows, start, _given_back(start, end, busy)))


def _given_back(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], busy: Intervals) -> npt.NDArray[np.int64]:
    """When each collective was over for the thread that waited for it, at the latest its end.

    On a busy machine that thread goes on while the other one waits for a core to write down that it is done. So if training was
    at work when a collective ended, it was over where the longest pause inside of it ends, unless that is the smaller part.
    Of several under way at once training waits for the one that began first, goes on, and pauses again for the next.
    """
    over = end.copy()
    first, last = np.searchsorted(busy.start, start, side="right"), np.searchsorted(busy.start, end, side="left")
    order = np.argsort(start, kind="stable")
    for place in np.flatnonzero((last > first)[order]).tolist():
        i = order[place]
        if end[i] - busy.end[last[i] - 1] >= _PAUSE_NS:
            continue
        resumed = busy.start[first[i] : last[i]]
        stopped = busy.end[np.maximum(np.arange(first[i], last[i]) - 1, 0)]
        paused = resumed - np.clip(stopped, start[i], resumed)
        before = over[order[max(place - _MOST_OPEN, 0) : place]]
        before = before[(before > start[i]) & (before < end[i])]
        again = np.where(resumed > before.max(initial=-1), paused, 0)
        ended = int(np.argmax(again if again.max() >= _PAUSE_NS else paused))
        if paused[: ended + 1].max() >= end[i] - resumed[ended]:
            over[i] = resumed[ended]
    return over


def training_ops(trace: Trace) -> npt.NDArray[np.int64]:
    """Operator rows on the threads that train: the training thread, and those of its backward."""
    rows = trace.rows(Category.CPU_OP)
    return rows[np.isin(trace.events.track[rows], training_threads(trace))]


def self_time(rows: Rows, start: Rows, end: Rows) -> Rows:
    """Stretches in which each event of one thread is innermost: an array (3, k) of row, start, end.

    Args:
        rows: the events, in order of their start, outer ones first.
        start: when each began.
        end: when each ended.
    """
    compiled = core(STACKS)
    if compiled is None:
        return self_time_in_python(rows, start, end)
    *stretches, count = compiled.self_time(rows, start, end)
    return np.array([np.asarray(column)[:count] for column in stretches])


def self_time_in_python(rows: Rows, starts: Rows, ends: Rows) -> Rows:
    """The same by Python."""
    out_row: list[int] = []
    out_start: list[int] = []
    out_end: list[int] = []
    stack: list[tuple[int, int]] = []  # (end, row)
    cursor = 0

    def emit(until: int) -> None:
        if until > cursor:
            out_row.append(stack[-1][1])
            out_start.append(cursor)
            out_end.append(until)

    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        while stack and stack[-1][0] <= start:
            emit(stack[-1][0])
            cursor = max(cursor, stack.pop()[0])
        if stack:
            emit(start)
        cursor = start
        stack.append((min(end, stack[-1][0]) if stack else end, row))
    while stack:
        emit(stack[-1][0])
        cursor = max(cursor, stack.pop()[0])
    return np.array([out_row, out_start, out_end], np.int64)
