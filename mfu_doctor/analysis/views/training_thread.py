"""Which host thread trains: the one that takes the optimizer's steps, that the steps are marked on, or that loads the batches.

Counting runtime calls does not answer this: backward runs on a thread of its own and often makes more calls than the thread
that waits for data. Every view that needs "the main thread" asks here, so that no two of them can mean different threads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.autograd import NODE, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import (
    FETCH,
    FETCH_FRAME,
    LABEL,
    OPTIMIZER_MARK,
    STEP_MARK,
    ids_matching,
    rows_matching,
)
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import union
from mfu_doctor.trace import CALL_CATEGORIES, DEVICE_CATEGORIES, Category, Trace

Rows = npt.NDArray[np.int64]

# A thread that loads batches but issues less than this share of what another thread issues only loads ahead for it. A thread
# that trains issues forward and the optimizer itself; one that loads ahead issues a few copies per batch.
_ONLY_LOADS = 0.1


def training_thread(trace: Trace) -> int | None:
    """Track of the thread that trains, or None if the trace has no host events.

    In this order: most optimizer steps, most step marks, most fetches of a batch. A thread that issues no work does not train,
    even if the loop is marked on it. Without such marks it is the thread that issues most outside of backward.
    """
    issued = _issued(trace)
    for marks in (optimizer_marks(trace), _step_marks_anywhere(trace)):
        if (found := _most(trace, marks, issued > 0)) is not None:
            return found
    outside = _issued_outside_fetches(trace)
    if (found := _most(trace, fetch_marks(trace), outside > _ONLY_LOADS * outside.max(initial=0))) is not None:
        return found
    for counts in (outside, issued):
        if counts.any():
            return int(counts.argmax())
    return _most(trace, _host_rows(trace), np.ones(len(trace.tracks), np.bool_))


def training_threads(trace: Trace) -> Rows:
    """Tracks of the thread that trains, of those on which its backward runs, and of those that launch many of the kernels.

    What another thread waits for (a pin-memory thread, a watchdog, one that loads ahead or saves a checkpoint) delays nobody.
    """
    main = training_thread(trace)
    backward = trace.events.track[rows_matching(trace, NODE_CALL, trace.rows(Category.CPU_OP))]
    kernels = _kernels_launched(trace)
    launching = np.flatnonzero(kernels > _ONLY_LOADS * kernels.max(initial=0))
    found: Rows = distinct(np.concatenate((backward, launching, [] if main is None else [main]))).astype(np.int64)
    return found


def _kernels_launched(trace: Trace) -> npt.NDArray[np.int64]:
    """Launches of kernels by each track."""
    calls = trace.rows(*CALL_CATEGORIES)
    ids = trace.events.correlation
    kernels = ids[trace.rows(Category.KERNEL)]
    launches = calls[np.isin(ids[calls], kernels[kernels > 0])]
    return np.bincount(trace.events.track[launches], minlength=len(trace.tracks))


def step_marks(trace: Trace) -> Rows:
    """Rows of the ProfilerStep# spans of one thread, in time order: the thread that trains, else the one with most of them."""
    rows = _step_marks_anywhere(trace)
    tracks = trace.events.track[rows]
    main = training_thread(trace)
    if len(rows) and not (tracks == main).any():
        main = int(np.bincount(tracks).argmax())
    mine: Rows = rows[np.flatnonzero(tracks == main)]
    return mine


def optimizer_marks(trace: Trace) -> Rows:
    """Rows of optimizer steps, in time order; those that hooks take in backward, one per parameter, are not the loop's."""
    rows = rows_matching(trace, OPTIMIZER_MARK, _host_rows(trace))
    return rows[~_within(trace, rows, rows_matching(trace, NODE_CALL, trace.rows(Category.CPU_OP)))]


def fetch_marks(trace: Trace) -> Rows:
    """Rows of the fetches of batches on any thread: the loader's own spans, else its frames if stacks were recorded."""
    found = rows_matching(trace, FETCH, _host_rows(trace))
    return found if len(found) else trace.frames(ids_matching(trace, FETCH_FRAME))


def _step_marks_anywhere(trace: Trace) -> Rows:
    return rows_matching(trace, STEP_MARK, _host_rows(trace))


def _host_rows(trace: Trace) -> Rows:
    return trace.rows(Category.CPU_OP, Category.ANNOTATION)


def _most(trace: Trace, rows: Rows, allowed: npt.NDArray[np.bool_]) -> int | None:
    """Track with most of these rows among the allowed ones, or None."""
    counts = np.bincount(trace.events.track[rows], minlength=len(trace.tracks)) * allowed
    return int(counts.argmax()) if counts.any() else None


def _work(trace: Trace) -> Rows:
    """What a thread does for training: operators, and runtime calls if there is a device that they are for."""
    has_device = bool(len(trace.rows(*DEVICE_CATEGORIES)))
    rows = trace.rows(Category.CPU_OP, *(CALL_CATEGORIES if has_device else ()))
    return rows[~np.isin(trace.events.name[rows], ids_matching(trace, LABEL))]


def _issued(trace: Trace) -> npt.NDArray[np.int64]:
    """Operators and runtime calls of each track."""
    return np.bincount(trace.events.track[_work(trace)], minlength=len(trace.tracks))


def _issued_outside_fetches(trace: Trace) -> npt.NDArray[np.int64]:
    """What each track issues besides loading and backward: runtime calls, or operators if the trace has no calls."""
    rows = _work(trace)
    nodes = rows_matching(trace, NODE_CALL, rows)
    nodes = nodes if len(nodes) else rows_matching(trace, NODE, rows)  # before torch 1.9 a node stands alone
    inside = _within(trace, rows, fetch_marks(trace)) | _within(trace, rows, nodes)
    rows = rows[~inside]
    calls = rows[np.isin(trace.events.category[rows], np.array([int(c) for c in CALL_CATEGORIES], np.uint8))]
    return np.bincount(trace.events.track[calls if len(calls) else rows], minlength=len(trace.tracks))


def _within(trace: Trace, rows: Rows, around: Rows) -> npt.NDArray[np.bool_]:
    """Which rows begin inside one of the rows `around` on their own thread."""
    events = trace.events
    found = np.zeros(len(rows), np.bool_)
    for outer, mine in on_each(events.track[around], events.track[rows]):
        found[mine] = union(events.start[around[outer]], events.end[around[outer]]).contains(events.start[rows[mine]])
    return found
