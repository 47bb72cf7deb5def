"""Where each step begins and ends on the device.

A GPU runs behind the host, so host-side step marks cut the wrong kernels (accounting on them is up to 3x off). Step i is
``[start of the first kernel launched by step i, start of the first kernel launched by step i+1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.activity import Activity
from mfu_doctor.analysis.host import Host
from mfu_doctor.analysis.launches import Launches
from mfu_doctor.analysis.vocabulary import OPTIMIZER_MARK, STEP_MARK, rows_matching
from mfu_doctor.errors import DoctorError
from mfu_doctor.trace import Category, Trace

PROFILER_STEP, OPTIMIZER, PERIODICITY, WHOLE = "ProfilerStep", "optimizer", "periodicity", "whole trace"
_MIN_REPEATS = 3  # a period is believed when it is seen this often
_REGULAR = 0.8  # share of repeats that must be equal
_MIN_PERIOD = 8  # operations in a period: shorter ones are a loop inside a step


@dataclass(frozen=True, slots=True)
class Steps:
    """Judged step windows; arrays of shape (k,), windows are contiguous and half-open, in nanoseconds.

    `host_start`/`host_end` are the host-side marks (equal to the window on a CPU-only trace).
    """

    number: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    host_start: npt.NDArray[np.int64]
    host_end: npt.NDArray[np.int64]
    steady: npt.NDArray[np.bool_]  # False for a first step that is warm-up; at least one step is steady
    source: str  # ProfilerStep, optimizer, periodicity, whole trace
    note: str | None = None  # what the reader of the report must know about the choice

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.number)

    @property
    def duration(self) -> npt.NDArray[np.int64]:
        """Length of each window in nanoseconds."""
        return self.end - self.start

    @property
    def median(self) -> int:
        """Index of the steady step whose duration is the (lower) median: the step that is drawn and split."""
        order = sorted(np.flatnonzero(self.steady).tolist(), key=lambda i: int(self.end[i] - self.start[i]))
        return int(order[(len(order) - 1) // 2])


def find_steps(
    trace: Trace, activity: Activity, launches: Launches, host: Host, wanted: tuple[int, int] | None
) -> Steps:
    """Find the step windows of a trace.

    Marks come from `ProfilerStep#`, else from optimizer steps, else from the period of the kernel sequence; without any of
    these the whole trace is one window, and `note` says so.

    Args:
        trace: the trace.
        activity: its device work.
        launches: which call and operator each device operation belongs to.
        host: the host view (its training thread carries the marks).
        wanted: judge only windows whose step number is in this half-open range.

    Raises:
        DoctorError: the trace has nothing that could be a step, or none in the wanted range.
    """
    if not activity.count or not (activity.end > activity.start).any():
        raise DoctorError(
            f"{trace.label or 'the trace'} has no operators and no kernels that take time",
            "record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]",
        )
    issued = issue_time(trace, activity, launches)
    for marks in (_from_profiler_steps(trace, host), _from_optimizer(trace)):
        if marks is not None:
            steps = _windows(marks, activity, issued)
            if steps is not None:
                return _select(steps, wanted)
    periodic = _from_period(trace, activity, launches)
    return _select(periodic if periodic is not None else _whole(activity), wanted)


def issue_time(trace: Trace, activity: Activity, launches: Launches) -> npt.NDArray[np.int64]:
    """When the host issued each device operation: start of its launch call, else of its operator; -1 unknown; shape (n,)."""
    start = trace.events.start
    by_op = np.where(launches.op >= 0, start[np.maximum(launches.op, 0)], -1)
    if not activity.is_device:
        return activity.start
    return np.where(launches.call >= 0, start[np.maximum(launches.call, 0)], by_op)


@dataclass(frozen=True, slots=True)
class _Marks:
    number: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    source: str


def _from_profiler_steps(trace: Trace, host: Host) -> _Marks | None:
    rows = rows_matching(trace, STEP_MARK, trace.rows(Category.ANNOTATION, Category.CPU_OP))
    rows = rows[trace.events.track[rows] == host.main_track] if host.main_track is not None else rows
    if not len(rows):
        return None
    number = np.array([int(trace.name_of(int(r)).partition("#")[2]) for r in rows], np.int64)
    start, end = trace.events.start[rows], trace.events.end[rows]
    keep = np.ones(len(rows), np.bool_)
    if len(rows) > 2 and end[-1] - start[-1] < np.median(end - start) / 2:
        keep[-1] = False  # the profiler stopped inside it: a stump, not a step
    return _Marks(number[keep], start[keep], end[keep], PROFILER_STEP)


def _from_optimizer(trace: Trace) -> _Marks | None:
    """Each step ends where an optimizer step ends; the first recorded end opens the first whole step."""
    rows = rows_matching(trace, OPTIMIZER_MARK, trace.rows(Category.ANNOTATION, Category.CPU_OP))
    if not len(rows):
        return None
    names = trace.events.name[rows]
    anchor = rows[names == np.bincount(names).argmax()]  # several optimizers: the one that steps most often
    ends = trace.events.end[anchor]
    if len(ends) < 2:
        return None
    return _Marks(np.arange(len(ends) - 1), ends[:-1], ends[1:], OPTIMIZER)


def _windows(marks: _Marks, activity: Activity, issued: npt.NDArray[np.int64]) -> Steps | None:
    if not activity.is_device:
        ends = np.append(marks.start[1:], marks.end[-1])
        return _steps(marks, np.arange(len(marks.number)), marks.start, ends)
    inside = np.searchsorted(marks.start, issued, side="right") - 1
    inside[(inside < 0) | (issued < 0) | (issued >= marks.end[np.maximum(inside, 0)])] = -1
    first = np.full(len(marks.number), -1, np.int64)
    owned = np.flatnonzero(inside >= 0)
    step_of, at = np.unique(inside[owned], return_index=True)  # activity is sorted by start: the first is the earliest
    first[step_of] = activity.start[owned[at]]
    have = np.flatnonzero(first >= 0)
    if not len(have):
        return None
    if len(have) == 1:
        only = int(have[0])
        end = max(int(marks.end[only]), int(activity.end[inside == only].max()))
        return _steps(marks, have, marks.start[have], np.array([end], np.int64))
    return _steps(marks, have[:-1], first[have[:-1]], first[have[1:]])


def _steps(
    marks: _Marks, index: npt.NDArray[np.int64], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> Steps:
    steady = np.ones(len(index), np.bool_)
    if len(index) > 1:
        steady[0] = False  # cold queue and warm-up
    notes = {
        OPTIMIZER: "no ProfilerStep# marks: a step ends where the optimizer's step ends",
        PROFILER_STEP: "only one step was recorded" if len(index) == 1 else None,
    }
    return Steps(
        marks.number[index], start, end, marks.start[index], marks.end[index], steady, marks.source, notes[marks.source]
    )


def _from_period(trace: Trace, activity: Activity, launches: Launches) -> Steps | None:
    """Windows from the period of the sequence of operation names: the longest repeat that holds at least three times.

    A repeat inside one graph launch is a layer, not a step, and a repeat that leaves much of the trace out is a loop in a step.
    """
    names = trace.events.name[activity.row]
    best: npt.NDArray[np.int64] | None = None
    counts = np.bincount(names)
    for name in np.argsort(counts, kind="stable"):
        if counts[name] < _MIN_REPEATS + 1:
            continue
        at = np.flatnonzero(names == name)
        gaps = np.diff(at)
        period = int(np.median(gaps))
        same = [np.array_equal(names[i : i + period], names[j : j + period]) for i, j in pairwise(at[:-1])]
        covered = (at[-1] - at[0] + period) / len(names)
        apart = not activity.is_device or len(np.unique(launches.call[at])) == len(at)
        if apart and min(covered, (gaps == period).mean(), np.mean(same)) >= _REGULAR:
            best = at
            break
    if best is None or len(best) < _MIN_REPEATS + 1 or len(names) / len(best) < _MIN_PERIOD:
        return None
    start = activity.start[best]
    steady = np.ones(len(start) - 1, np.bool_)
    steady[0] = False
    note = "no step marks: windows follow the period of the kernel sequence"
    number = np.arange(len(start) - 1)
    return Steps(number, start[:-1], start[1:], start[:-1], start[1:], steady, PERIODICITY, note)


def _whole(activity: Activity) -> Steps:
    start, end = activity.start[:1], activity.end.max(keepdims=True)
    note = "no step marks and no repeating sequence: the whole trace is treated as one step"
    zero = np.zeros(1, np.int64)
    return Steps(zero, start, end, start, end, np.ones(1, np.bool_), WHOLE, note)


def _select(steps: Steps, wanted: tuple[int, int] | None) -> Steps:
    if wanted is None:
        return steps
    keep = (steps.number >= wanted[0]) & (steps.number < wanted[1])
    if not keep.any():
        have = f"{int(steps.number[0])}:{int(steps.number[-1]) + 1}"
        raise DoctorError(f"no recorded step in {wanted[0]}:{wanted[1]}", f"this trace has steps {have}")
    columns = (steps.number, steps.start, steps.end, steps.host_start, steps.host_end)
    number, start, end, host_start, host_end = (column[keep] for column in columns)
    return Steps(number, start, end, host_start, host_end, np.ones(len(number), np.bool_), steps.source, steps.note)
