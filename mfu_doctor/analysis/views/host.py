"""What the host threads did: waiting for data, blocked on the device, allocating, compiling, or busy issuing work.

The idle time of the device is explained by these interval sets, and the rules take their evidence from them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import (
    ALLOCATOR,
    BLOCKING,
    COMPILE,
    rows_matching,
)
from mfu_doctor.analysis.views.polls import Polls, find_polls
from mfu_doctor.analysis.views.training_thread import fetch_marks, training_thread, training_threads
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.facts import Facts
from mfu_doctor.trace import CALL_CATEGORIES, Category, Trace

_NONE = np.zeros(0, np.int64)


class Host(Struct, frozen=True):
    """Interval sets and rows of the host side; intervals in nanoseconds, rows are event rows in time order."""

    main_track: int | None  # the thread that trains
    fetch_rows: npt.NDArray[np.int64]  # data fetches on the main thread, one per batch (outermost only)
    fetch: Intervals
    blocking_rows: npt.NDArray[
        np.int64
    ]  # calls of threads that train that wait for the device; of a poll its last query
    blocking_start: npt.NDArray[np.int64]  # since when each of them waits: a polling loop since its first query
    polls: Polls
    blocking: Intervals
    allocator: Intervals  # cudaMalloc, cudaFree and similar
    compile: Intervals  # Dynamo, Inductor, Triton at work
    computing_rows: npt.NDArray[np.int64]  # operators that compute on the CPU of a GPU run
    computing: Intervals
    gc: Intervals  # garbage collection, if profile() timed it
    busy: Intervals  # an operator or a runtime call is active on a thread that trains

    @property
    def housekeeping(self) -> Intervals:
        """What a run does for itself, even if only once: compiling and collecting garbage."""
        return self.compile | self.gc


def host_view(trace: Trace, computing: npt.NDArray[np.int64] = _NONE) -> Host:
    """Collect the host's interval sets from one trace.

    Args:
        trace: the trace.
        computing: rows of operators that compute on the CPU, by `host_computing`.
    """
    events = trace.events
    spans = trace.rows(Category.CPU_OP, Category.ANNOTATION)
    calls = trace.rows(*CALL_CATEGORIES)
    main = training_thread(trace)
    fetch_rows = _fetches(trace, main)
    threads = training_threads(trace)
    polls = find_polls(trace, threads)
    waiting = rows_matching(trace, BLOCKING, calls)
    blocking, blocking_start = _waits(trace, waiting[np.isin(events.track[waiting], threads)], polls)
    working = np.concatenate((trace.rows(Category.CPU_OP), calls))
    working = working[np.isin(events.track[working], threads) & ~np.isin(working, fetch_rows)]
    return Host(
        main_track=main,
        fetch_rows=fetch_rows,
        fetch=_set(trace, fetch_rows),
        blocking_rows=blocking,
        blocking_start=blocking_start,
        polls=polls,
        blocking=union(blocking_start, events.end[blocking]),
        allocator=_set(trace, rows_matching(trace, ALLOCATOR, calls)),
        compile=_set(trace, rows_matching(trace, COMPILE, spans)),
        computing_rows=computing,
        computing=_set(trace, computing),
        gc=_gc(trace.facts, trace.origin_ns),
        busy=union(events.start[working], events.end[working]),
    )


def _waits(
    trace: Trace, calls: npt.NDArray[np.int64], polls: Polls
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and starts of all waits for the device, in time order."""
    rows, start = np.concatenate((calls, polls.row)), np.concatenate((trace.events.start[calls], polls.start))
    order = np.argsort(rows, kind="stable")
    return rows[order], start[order]


def _set(trace: Trace, rows: npt.NDArray[np.int64]) -> Intervals:
    return union(trace.events.start[rows], trace.events.end[rows])


def _fetches(trace: Trace, main: int | None) -> npt.NDArray[np.int64]:
    """Outermost data fetches on the main thread; fetches on other threads are overlap, not waiting."""
    found = fetch_marks(trace)
    found = found[trace.events.track[found] == main] if main is not None else found
    if not len(found):
        return found
    reach = np.maximum.accumulate(trace.events.end[found])
    outer = np.concatenate((np.ones(1, np.bool_), trace.events.start[found][1:] >= reach[:-1]))
    kept: npt.NDArray[np.int64] = found[outer]
    return kept


def _gc(facts: Facts | None, origin_ns: int) -> Intervals:
    if facts is None or not facts.gc_pauses or not origin_ns:
        return EMPTY
    start = np.array([p.start_ns - origin_ns for p in facts.gc_pauses], np.int64)
    return union(start, start + np.array([p.duration_ns for p in facts.gc_pauses], np.int64))
