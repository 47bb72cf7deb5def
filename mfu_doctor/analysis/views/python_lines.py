"""The user's lines that can be moved out of the training step: Python that runs between operators, and issues none itself.

`model(x)`, `loss.backward()` and `trainer.fit(...)` are where a program is for most of its time, gaps between operators included.
They are the training step. What is worth naming is code that runs while no operator does.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import FETCH, LABEL, ids_matching
from mfu_doctor.analysis.views.source_lines import Spot, Thread, UserFrames, heaviest, spot_of
from mfu_doctor.analysis.views.trainers import training_starts
from mfu_doctor.facts import FrameSample
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.trace import Category, Trace

Int64 = npt.NDArray[np.int64]

# A line or function that spends more than this share of its time in operators issues them: it is part of the training step.
_ISSUES = 0.1
_MOST = 0.5  # of the time in question that a line or function must explain to be named
_LEAST_SEEN = 2  # samples; one alone can be chance
_LEAST_USUAL = 0.05  # of the time on a CPU: with less than this in operators too, the clock tells nothing
_FRAMEWORK = "torch"  # its Python code between two operators is dispatch


def python_at(trace: Trace, where: Intervals, frames: UserFrames, track: int | None) -> Spot | None:
    """The user's code that ran for most of this time and issues no operators; None if there is none, or nothing tells.

    Args:
        trace: the trace.
        where: host time in which no operator ran.
        frames: what `user_frames` returned for this trace.
        track: the thread that trains.
    """
    if track is None:
        return None
    place = _sampled(trace, where, _operators(trace, track), frames.trainers)
    return Spot(place) if place is not None else function_at(trace, where, frames, track)


def function_at(trace: Trace, where: Intervals, frames: UserFrames, track: int | None) -> Spot | None:
    """The same from stacks alone: a function; None if none was recorded or none explains most of the time."""
    thread = frames.threads.get(track) if track is not None else None
    return None if thread is None or track is None else _in_frames(trace, where, frames, (thread, track))


def awake_share(trace: Trace, where: Intervals, waiting: Intervals) -> float | None:
    """Share of this host time that the thread's own work takes; None if its CPU time was not recorded.

    Between two samples the thread was off the CPU for the time that its CPU clock does not show. That is laid to `where` before
    anything else, because an operator on several threads keeps its caller busy. If other processes take the core all the time,
    work needs longer everywhere: the share of CPU time in `where` counts against that in the rest of the run.

    Args:
        trace: the trace.
        where: host time in which no operator ran.
        waiting: host time that is known to be spent waiting: for a batch or for the device.
    """
    samples = [s for s in _samples(trace) if s.cpu_ns is not None]
    if len(samples) < 2:
        return None
    at = np.array([s.time_ns - trace.origin_ns for s in samples], np.int64)
    cpu = np.diff(np.array([s.cpu_ns for s in samples], np.int64))
    inside = where.overlap_with(at[:-1], at[1:])
    known = (waiting - where).overlap_with(at[:-1], at[1:])
    off = np.clip(np.diff(at) - cpu - known, 0, None)
    seen = int(inside.sum())
    if seen < _MOST * where.total_ns or not seen:
        return None
    awake = inside - np.minimum(off, inside)
    outside = int((np.diff(at) - inside - known).clip(0).sum())
    usual = float(np.clip(cpu - awake, 0, None).sum()) / outside if outside else 1.0
    return min(float(awake.sum()) / seen / min(max(usual, _LEAST_USUAL), 1.0), 1.0)


def _samples(trace: Trace) -> list[FrameSample]:
    if trace.facts is None or not trace.origin_ns:
        return []
    return sorted(trace.facts.frames, key=lambda frame: frame.time_ns)


def _operators(trace: Trace, track: int) -> Intervals:
    """When an operator runs on the thread, or a node of backward on any."""
    rows = trace.rows(Category.CPU_OP)
    told = np.concatenate((ids_matching(trace, LABEL), ids_matching(trace, FETCH)))
    rows = rows[~np.isin(trace.events.name[rows], told)]
    node = np.isin(trace.events.name[rows], ids_matching(trace, NODE_CALL))
    rows = rows[(trace.events.track[rows] == track) | node]
    return union(trace.events.start[rows], trace.events.end[rows])


def _sampled(trace: Trace, where: Intervals, operators: Intervals, trainers: frozenset[str]) -> str | None:
    """The line that capture sampled most often in this time, of those that issue no operators and call no trainer."""
    samples = _samples(trace)
    if not samples:
        return None
    at = np.array([s.time_ns - trace.origin_ns for s in samples], np.int64)
    every = Counter(s.place for s in samples)
    issuing = Counter(samples[i].place for i in np.flatnonzero(operators.contains(at)).tolist())
    inside = [samples[i] for i in np.flatnonzero(where.contains(at)).tolist()]
    own = [s for s in inside if s.library != _FRAMEWORK and s.call not in trainers]
    named = Counter(s.place for s in own if issuing[s.place] <= _ISSUES * every[s.place])
    if named.total() < max(_MOST * len(inside), _LEAST_SEEN):
        return None
    return named.most_common(1)[0][0]


def _in_frames(trace: Trace, where: Intervals, frames: UserFrames, of: tuple[Thread, int]) -> Spot | None:
    """The function in which this time went by, of those that issue no operators and take no part of the step."""
    thread, track = of
    length = np.maximum(thread.end - thread.start, 1)
    issues = _operators(trace, track).overlap_with(thread.start, thread.end) > _ISSUES * length
    trains = _begin_inside(training_starts(trace), thread)
    own = thread.only(~(issues | trains))
    covered = where & union(own.start, own.end)
    if not len(own.start) or covered.total_ns < _MOST * where.total_ns:
        return None
    name = heaviest(own, where)
    return None if name is None else spot_of(trace, frames, name)


def _begin_inside(starts: Int64, thread: Thread) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.searchsorted(starts, thread.end) > np.searchsorted(starts, thread.start)
    return found
