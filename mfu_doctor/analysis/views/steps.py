"""Where each step begins and ends on the device.

A GPU runs behind the host, so host-side step marks cut the wrong kernels (accounting on them is up to 3x off). Step i is
``[start of the first operation launched by step i, start of the first operation launched by step i+1)``, both on the stream that
computes most: a copy that prefetches on a stream of its own runs ahead and opens no step. `step_kinds` decides which of the
steps are analysed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.views.activity import COMPUTE, Activity
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.optimizer_turns import optimizer_turns
from mfu_doctor.analysis.views.periods import loop_openings
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.analysis.views.training_thread import step_marks
from mfu_doctor.analysis.views.whole_trace import extent_of_work
from mfu_doctor.arrays.distinct import distinct, numbered_together
from mfu_doctor.errors import DoctorError
from mfu_doctor.reading.other_files import RECORD
from mfu_doctor.trace import Trace

PROFILER_STEP, OPTIMIZER, PERIODICITY, WHOLE = "ProfilerStep", "optimizer", "periodicity", "whole trace"
MOST_STEPS = 20_000  # each is accounted and listed: half a second for a thousand
_SELDOM = 0.8  # a stream with work in less than this share of the steps opens none of them


def find_steps(trace: Trace, activity: Activity, launches: Launches, wanted: tuple[int, int] | None) -> Steps:
    """Find the step windows of a trace; all are steady until `step_kinds` leaves some out.

    Marks come from `ProfilerStep#`, else from optimizer steps, else from the period of the kernel sequence; without any of
    these the whole trace is one window, and `note` says so.

    Args:
        trace: the trace.
        activity: its device work.
        launches: which call and operator each device operation belongs to.
        wanted: keep only windows whose step number is in this half-open range.

    Raises:
        DoctorError: the trace has nothing that could be a step, or none in the wanted range.
    """
    if not activity.count or not (activity.end > activity.start).any():
        raise _without_work(trace)
    issued = issue_time(trace, activity, launches)
    marked = [m for m in (_from_profiler_steps(trace), _from_optimizer(trace)) if m is not None]
    for marks in marked:
        steps = _of_length(_windows(marks, activity, issued))
        if steps is not None:
            return _select(steps, wanted)
    why = f"No launch event links the {marked[0].source} events to kernels" if marked else "No step events"
    periodic = _from_period(trace, activity, launches, why)
    return _select(periodic if periodic is not None else _whole(activity, issued, why), wanted)


def _without_work(trace: Trace) -> DoctorError:
    """Why there is no work: it was not recorded, or the trace is of another tool, of whose events torch writes none."""
    label, categories = trace.label or "the trace", trace.events.category
    if len(categories) and not categories.any() and not trace.versions and trace.facts is None:
        return DoctorError(f"{label} is a Chrome trace without any event of PyTorch (ui.perfetto.dev opens it)", RECORD)
    return DoctorError(
        f"{label} has no operator or kernel with a duration",
        "record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]",
    )


def issue_time(trace: Trace, activity: Activity, launches: Launches) -> npt.NDArray[np.int64]:
    """When the host issued each device operation: start of its launch call, else of its operator; -1 unknown; shape (n,).

    On a CPU-only trace an operation is issued when it starts.
    """
    start = trace.events.start
    by_op = np.where(launches.op >= 0, start[np.maximum(launches.op, 0)], -1)
    if not activity.is_device:
        return activity.start
    return np.where(launches.call >= 0, start[np.maximum(launches.call, 0)], by_op)


class _Marks(Struct, frozen=True):
    number: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    source: str
    updates: int = 1  # optimizer steps in each, if that is the source


def _from_profiler_steps(trace: Trace) -> _Marks | None:
    rows = step_marks(trace)
    rows = rows[trace.events.end[rows] > trace.events.start[rows]]
    if not len(rows):
        return None
    number = np.array([int(trace.name_of(int(r)).partition("#")[2]) for r in rows], np.int64)
    start, end = trace.events.start[rows], trace.events.end[rows]
    keep = np.ones(len(rows), np.bool_)
    if len(rows) > 2 and end[-1] - start[-1] < np.median(end - start) / 2:
        keep[-1] = False  # the profiler stopped inside it: a stump, not a step
    return _Marks(number[keep], start[keep], end[keep], PROFILER_STEP)


def _from_optimizer(trace: Trace) -> _Marks | None:
    """Each step ends where the optimizers of a turn have stepped; the first recorded end opens the first whole step."""
    turns = optimizer_turns(trace)
    if len(turns.ends) < 2:
        return None
    numbers = np.arange(len(turns.ends) - 1)
    return _Marks(numbers, turns.ends[:-1], turns.ends[1:], OPTIMIZER, turns.updates)


def _windows(marks: _Marks, activity: Activity, issued: npt.NDArray[np.int64]) -> Steps | None:
    if not activity.is_device:
        return _host_windows(marks)
    inside = np.searchsorted(marks.start, issued, side="right") - 1
    inside[(inside < 0) | (issued < 0) | (issued >= marks.end[np.maximum(inside, 0)])] = -1
    by_stream = dict(groups(np.where(inside >= 0, activity.track, -1)))
    for track in _streams_by_compute(activity, inside):
        owned = by_stream.get(track, np.zeros(0, np.int64))
        # activity is sorted by start: the first is the earliest
        step_of, at = np.unique(inside[owned], return_index=True)
        first = owned[at]
        start = activity.start[first]
        later = np.append(True, start[1:] > np.maximum.accumulate(start)[:-1])  # a window of no length is no step
        have, first = step_of[later[: len(start)]], first[later[: len(start)]]
        if len(have) > 1:
            return _steps(marks, have[:-1], activity, first)
    owned = np.flatnonzero(inside >= 0)
    return _single(marks, activity, inside, owned) if len(owned) else None


def _streams_by_compute(activity: Activity, inside: npt.NDArray[np.int64]) -> list[int]:
    """Streams with work in most steps first, of these the one that computes most; then those that only copy or communicate."""
    length = (activity.end - activity.start).astype(np.float64)
    tracks = distinct(activity.track)
    computing = np.bincount(activity.track, weights=length * (activity.kind == COMPUTE))[tracks]
    busy = np.bincount(activity.track, weights=length)[tracks]
    known = inside >= 0
    of_step, _ = numbered_together(activity.track[known], inside[known])
    seen = np.bincount(activity.track[known][of_step], minlength=int(tracks.max()) + 1)[tracks]
    seldom = seen < _SELDOM * seen.max()
    ordered: list[int] = tracks[np.lexsort((-busy, -computing, (computing == 0), seldom))].tolist()
    return ordered


def _of_length(steps: Steps | None) -> Steps | None:
    """The windows in which time passes; None if there is none."""
    long = None if steps is None else steps.end > steps.start
    return None if steps is None or long is None or not long.any() else _kept(steps, long)


def _host_windows(marks: _Marks) -> Steps:
    none = np.full(len(marks.number), -1, np.int64)
    end = np.append(marks.start[1:], marks.end[-1])
    kind = np.zeros(len(end), np.int8)
    note = _note(marks, len(end))
    return Steps(marks.number, marks.start, end, marks.start, marks.end, none, none, kind, marks.source, note)


def _single(marks: _Marks, activity: Activity, inside: npt.NDArray[np.int64], owned: npt.NDArray[np.int64]) -> Steps:
    """The one step that issued device work: from its mark to the end of all that it issued."""
    only = int(inside[owned[0]])
    start, mark_end = marks.start[only : only + 1], marks.end[only : only + 1]
    end = np.maximum(mark_end, activity.end[inside == only].max())
    none, kind = np.full(1, -1, np.int64), np.zeros(1, np.int8)
    number = marks.number[only : only + 1]
    return Steps(number, start, end, start, mark_end, none, none, kind, marks.source, _note(marks, 1))


def _steps(marks: _Marks, index: npt.NDArray[np.int64], activity: Activity, first: npt.NDArray[np.int64]) -> Steps:
    """Windows between the operations `first` (one more than there are windows) that open the steps `index`."""
    start, end = activity.start[first[:-1]], activity.start[first[1:]]
    kind = np.zeros(len(start), np.int8)
    host_start, host_end = marks.start[index], marks.end[index]
    note = _note(marks, len(start))
    return Steps(marks.number[index], start, end, host_start, host_end, first[:-1], first[1:], kind, marks.source, note)


def _note(marks: _Marks, count: int) -> str | None:
    if marks.source == OPTIMIZER and marks.updates > 1:
        return f"No ProfilerStep# events: a step is {marks.updates} updates by optimizers that take turns"
    if marks.source == OPTIMIZER:
        return "No ProfilerStep# events: each step ends when Optimizer.step ends"
    return "Only one step was recorded" if count == 1 else None


def _from_period(trace: Trace, activity: Activity, launches: Launches, why: str) -> Steps | None:
    """Windows from the rounds of the trace's loop, each up to the opening of the next."""
    best = loop_openings(trace, activity, launches)
    if best is None:
        return None
    start = activity.start[best]
    note = f"{why}: the steps are taken from the repeating kernel sequence"
    issued = issue_time(trace, activity, launches)[best]
    host = np.where(issued >= 0, issued, start)
    opening, closing = (best[:-1], best[1:]) if activity.is_device else (np.full(len(best) - 1, -1, np.int64),) * 2
    number, kind = np.arange(len(start) - 1), np.zeros(len(start) - 1, np.int8)
    return Steps(number, start[:-1], start[1:], host[:-1], host[1:], opening, closing, kind, PERIODICITY, note)


def _whole(activity: Activity, issued: npt.NDArray[np.int64], why: str) -> Steps:
    first, last = extent_of_work(activity)
    start, end = np.array([first], np.int64), np.array([last], np.int64)
    note = f"{why}, and the kernel sequence does not repeat: the whole trace is treated as one step"
    zero, none = np.zeros(1, np.int64), np.full(1, -1, np.int64)
    inside = np.flatnonzero((activity.start >= first) & (activity.end <= last) & (activity.end > activity.start))
    opening = inside[:1] if activity.is_device else none
    known = issued[inside][issued[inside] >= 0]
    host = np.minimum(start, known.min(keepdims=True)) if len(known) else start
    return Steps(zero, start, end, host, end, opening, none, np.zeros(1, np.int8), WHOLE, note)


def _select(steps: Steps, wanted: tuple[int, int] | None) -> Steps:
    chosen = steps if wanted is None else _in_range(steps, wanted)
    if chosen.count > MOST_STEPS:
        first = int(chosen.number[0])
        raise DoctorError(
            f"{chosen.count:,} steps are more than the {MOST_STEPS:,} that can be analysed at once",
            f"choose some with --steps {first}:{first + MOST_STEPS // 10}",
        )
    return chosen


def _in_range(steps: Steps, wanted: tuple[int, int]) -> Steps:
    keep = (steps.number >= wanted[0]) & (steps.number < wanted[1])
    if not keep.any():
        have = f"{int(steps.number[0])}:{int(steps.number[-1]) + 1}"
        raise DoctorError(f"no recorded step in {wanted[0]}:{wanted[1]}", f"this trace has steps {have}")
    return _kept(steps, keep)


def _kept(steps: Steps, keep: npt.NDArray[np.bool_]) -> Steps:
    return replace(
        steps,
        number=steps.number[keep],
        start=steps.start[keep],
        end=steps.end[keep],
        host_start=steps.host_start[keep],
        host_end=steps.host_end[keep],
        opening=steps.opening[keep],
        closing=steps.closing[keep],
        kind=steps.kind[keep],
    )
