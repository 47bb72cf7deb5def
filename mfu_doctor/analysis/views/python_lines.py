"""The user's lines that can be moved out of the training step: Python that runs between operators, and issues none itself.

`model(x)`, `loss.backward()` and `trainer.fit(...)` are where a program is for most of its time, gaps between operators included.
They are the training step. What is worth naming is code that runs while no operator does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import FETCH, LABEL, ids_matching
from mfu_doctor.analysis.views.frame_threads import Thread
from mfu_doctor.analysis.views.source_lines import Spot, UserFrames, heaviest, spot_of
from mfu_doctor.analysis.views.trainers import training_starts
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.facts import FrameSample
from mfu_doctor.trace import Category, Trace

Int64 = npt.NDArray[np.int64]

# A line or function that spends more than this share of its time in operators issues them: it is part of the training step.
_ISSUES = 0.1
_MOST = 0.5  # of the time in question that a line or function must explain to be named
_LEAST_SEEN = 2  # samples; one alone can be chance
_LEAST_USUAL = 0.05  # of the time on a CPU: with less than this in operators too, the clock tells nothing
_FRAMEWORK = "torch"  # its Python code between two operators is dispatch


def python_at(
    trace: Trace, where: Intervals, frames: UserFrames, track: int | None, known: Known | None = None
) -> Spot | None:
    """The user's code that ran for most of this time and issues no operators; None if there is none, or nothing tells.

    Args:
        trace: the trace.
        where: host time in which no operator ran.
        frames: what `user_frames` returned for this trace.
        track: the thread that trains.
        known: code that is not meant.
    """
    if track is None:
        return None
    place = _sampled(trace, where, _operators(trace, track), frames, known or Known())
    if place is not None:
        return Spot(place)
    thread = frames.threads.get(track)
    return None if thread is None else _in_frames(trace, where, frames, (thread, track), known or Known())


class Known(Struct, frozen=True):
    """Code seen at another time: functions of the user that issue no operators, by where they begin, and sampled lines."""

    functions: frozenset[str] = frozenset()
    lines: frozenset[str] = frozenset()

    def has(self, line: str, frames: UserFrames) -> bool:
        """Whether this line was seen, or the function that it is in."""
        return line in self.lines or any(frames.is_within(line, function) for function in self.functions)


def known_in(trace: Trace, where: Intervals, frames: UserFrames, track: int | None) -> Known:
    """What ran on the training thread at this time, as far as stacks and samples tell."""
    lines = frozenset(_lines_in(trace, where))
    thread = frames.threads.get(track) if track is not None else None
    if thread is None or track is None:
        return Known(lines=lines)
    ran = distinct(_own_of(trace, where, (thread, track)).name)
    return Known(frozenset(frames.places[name] for name in ran.tolist()), lines)


def inside_only(trace: Trace, where: Intervals, apart: Intervals, frames: UserFrames, track: int | None) -> Spot | None:
    """The user's code in which most of this host time went by, operators too, and that does not run in the time `apart`."""
    lines, other = _lines_in(trace, where), _lines_in(trace, apart)
    place, times = next(((place, n) for place, n in lines.most_common() if place not in other), (None, 0))
    if place is not None and times >= _MOST * lines.total():
        return Spot(place)
    thread = frames.threads.get(track) if track is not None else None
    if thread is None:
        return None
    own = thread.touching(where)
    own = own.only(~np.isin(own.name, distinct(thread.touching(apart).name)))
    name = heaviest(own, where)
    covered = where & own.covered()
    return None if name is None or covered.total_ns < _MOST * where.total_ns else spot_of(trace, frames, name)


def _lines_in(trace: Trace, where: Intervals) -> Counter[str]:
    """How often each line of the user was sampled at this time."""
    samples = _samples(trace)
    at = np.array([s.time_ns - trace.origin_ns for s in samples], np.int64)
    return Counter(samples[i].place for i in np.flatnonzero(where.contains(at)).tolist())


def function_at(trace: Trace, where: Intervals, frames: UserFrames, track: int | None) -> Spot | None:
    """The same from stacks alone: a function; None if none was recorded or none explains most of the time."""
    thread = frames.threads.get(track) if track is not None else None
    return None if thread is None or track is None else _in_frames(trace, where, frames, (thread, track), Known())


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


def _sampled(trace: Trace, where: Intervals, operators: Intervals, frames: UserFrames, known: Known) -> str | None:
    """The line that capture sampled most often in this time, of those that issue no operators and call no trainer."""
    samples = _samples(trace)
    if not samples:
        return None
    at = np.array([s.time_ns - trace.origin_ns for s in samples], np.int64)
    every = Counter(s.place for s in samples)
    issuing = Counter(samples[i].place for i in np.flatnonzero(operators.contains(at)).tolist())
    inside = [samples[i] for i in np.flatnonzero(where.contains(at)).tolist()]
    own = [s for s in inside if s.library != _FRAMEWORK and s.call not in frames.trainers]
    named = Counter(s.place for s in own if issuing[s.place] <= _ISSUES * every[s.place])
    named = Counter({place: times for place, times in named.items() if not known.has(place, frames)})
    if named.total() < max(_MOST * len(inside), _LEAST_SEEN):
        return None
    return named.most_common(1)[0][0]


def _in_frames(trace: Trace, where: Intervals, frames: UserFrames, of: tuple[Thread, int], known: Known) -> Spot | None:
    """The function in which this time went by, of those that issue no operators and take no part of the step.

    A library that trains does other things besides, which are not the user's to change either.
    """
    training = tuple(f"{call.partition('.')[0]}/" for call in frames.trainers)
    unwanted = [n for n, place in frames.places.items() if place in known.functions or place.startswith(training)]
    own = _own_of(trace, where, of, unwanted)
    covered = where & own.covered()
    if not own.count or covered.total_ns < _MOST * where.total_ns:
        return None
    name = heaviest(own, where)
    return None if name is None else spot_of(trace, frames, name)


def _own_of(trace: Trace, where: Intervals, of: tuple[Thread, int], unwanted: Sequence[int] = ()) -> Thread:
    """What ran at this time on a thread, issues no operators, takes no part of the step and has none of these names."""
    thread, track = of
    ran, operators, starts = thread.touching(where), _operators(trace, track), training_starts(trace)
    own = [np.zeros(0, np.bool_)]
    for part in ran.parts():
        length = np.maximum(part.end - part.start, 1)
        issues = operators.overlap_with(part.start, part.end) > _ISSUES * length
        own.append(~(issues | _begin_inside(starts, part) | np.isin(part.name, unwanted)))
    return ran.only(np.concatenate(own))


def _begin_inside(starts: Int64, thread: Thread) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.searchsorted(starts, thread.end) > np.searchsorted(starts, thread.start)
    return found
