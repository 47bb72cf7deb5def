"""Two recorded windows as one: times from the window recorded lightly, shapes and source lines from the one recorded in depth.

profile() records a few steps with light options (their times can be used) and one step with shapes and stacks (its times cannot).
The same step does the same work, so the k-th `aten::mm` of a timed step has the shapes of the k-th `aten::mm` of the shaped step.
Where the steps of a loop take turns (a generator in every fifth), a whole turn is recorded, and each step has its like. An
operator that did not occur equally often in both is left without, which shows in the FLOP coverage.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import asdict, replace

from mfu_doctor.analysis.views.training_thread import step_marks
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.facts import Window
from mfu_doctor.trace import CALL_CATEGORIES, Category, Events, Trace

TIMING, SHAPES = "timing", "shapes"
_HOST = (Category.CPU_OP, Category.ANNOTATION, *CALL_CATEGORIES)


class TimingView(Struct, frozen=True):
    """The trace to analyse, and for each of its events the row of its twin in the recorded trace's shapes window (-1: none)."""

    trace: Trace
    twin: npt.NDArray[np.int64] | None  # None: the recorded trace has one window and is analysed as it is


def timing_view(recorded: Trace) -> TimingView:
    """The timing window of a two-window trace with the arguments of its twins; any other trace unchanged."""
    timing, shapes = _window(recorded, TIMING), _window(recorded, SHAPES)
    if timing is None or shapes is None:
        return TimingView(recorded, None)
    rows = _rows_in(recorded, timing)
    twin = np.full(len(recorded.events), -1, np.int64)
    patterns = [_host_rows(recorded, *span) for span in reversed(_step_spans(recorded, shapes))]
    for begin, end in _step_spans(recorded, timing) if patterns else ():
        mine = _host_rows(recorded, begin, end)
        twin[mine] = _like(recorded.events.name, mine, patterns)
    events = recorded.events
    args = np.where(twin >= 0, events.args[np.maximum(twin, 0)], events.args)
    args = np.where(events.args >= 0, events.args, args).astype(np.int32)
    kept = {name: column[rows] for name, column in asdict(events).items()} | {"args": args[rows]}
    return TimingView(replace(recorded, events=Events(**kept), _rows={}), twin[rows])


def without_borrowed(recorded: Trace, view: TimingView) -> TimingView:
    """The timing window with its own arguments alone: its twins are like it in all but their shapes."""
    timing = _window(recorded, TIMING)
    assert timing is not None
    own = recorded.events.args[_rows_in(recorded, timing)]
    return replace(view, trace=replace(view.trace, events=replace(view.trace.events, args=own), _rows={}))


def recorded_window(trace: Trace, kind: str) -> Intervals:
    """When windows of this kind were recorded, on the clock of the trace."""
    windows = [w for w in trace.facts.windows if w.kind == kind] if trace.facts is not None else []
    edges = np.array([(w.start_ns, w.end_ns) for w in windows], np.int64).reshape(-1, 2) - trace.origin_ns
    return union(edges[:, 0], edges[:, 1])


def _window(trace: Trace, kind: str) -> Window | None:
    windows = trace.facts.windows if trace.facts is not None else ()
    return next((w for w in windows if w.kind == kind and w.steps > 0), None)


def _rows_in(trace: Trace, window: Window) -> npt.NDArray[np.int64]:
    """Events that began in the window; device work that it issued may end after it."""
    return np.flatnonzero(_began_in(trace.events.start, trace, window))


def _began_in(start: npt.NDArray[np.int64], trace: Trace, window: Window) -> npt.NDArray[np.bool_]:
    lo, hi = window.start_ns - trace.origin_ns, window.end_ns - trace.origin_ns
    return (start >= lo) & (start <= hi)


def _step_spans(trace: Trace, window: Window) -> list[tuple[int, int]]:
    marks = step_marks(trace)
    marks = marks[_began_in(trace.events.start[marks], trace, window)]
    return list(zip(trace.events.start[marks].tolist(), trace.events.end[marks].tolist(), strict=True))


def _like(
    name: npt.NDArray[np.int32], mine: npt.NDArray[np.int64], patterns: list[npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64]:
    """The twins of a step's rows in the step with shapes that is most like it; of equal ones in the first of them.

    The last step with shapes comes first: the earlier ones warm up, unless the steps of a loop take turns.
    """
    twins = [_match(name[mine], name[pattern], pattern) for pattern in patterns]
    return max(twins, key=lambda twin: int((twin >= 0).sum()))


def _host_rows(trace: Trace, begin: int, end: int) -> npt.NDArray[np.int64]:
    events = trace.events
    lo, hi = np.searchsorted(events.start, (begin, end), side="left")
    rows = np.arange(lo, hi)
    return rows[np.isin(events.category[rows], np.array([int(c) for c in _HOST], np.uint8))]


def _match(
    names: npt.NDArray[np.int32], pattern_names: npt.NDArray[np.int32], pattern: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Row of the pattern with the same name and the same ordinal, if both have the name equally often; else -1."""
    if not len(pattern) or not len(names):
        return np.full(len(names), -1, np.int64)
    size = int(max(names.max(), pattern_names.max())) + 1
    equal = np.bincount(names, minlength=size) == np.bincount(pattern_names, minlength=size)
    key, pattern_key = _ordinal_key(names), _ordinal_key(pattern_names)
    order = np.argsort(pattern_key)
    at = np.minimum(np.searchsorted(pattern_key[order], key), len(order) - 1)
    found = (pattern_key[order][at] == key) & equal[names]
    return np.where(found, pattern[order][at], -1)


def _ordinal_key(names: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Name id and how many of this name came before, as one integer."""
    order = np.argsort(names, kind="stable")
    ordered = names[order].astype(np.int64)
    first = np.concatenate((np.ones(1, np.bool_), np.diff(ordered) != 0))
    begin = np.maximum.accumulate(np.where(first, np.arange(len(names)), 0))
    key = np.empty(len(names), np.int64)
    key[order] = (ordered << 32) | (np.arange(len(names)) - begin)
    return key
