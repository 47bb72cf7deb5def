"""The line of an operator, or of Python, within the function that the stacks name: they only know where a function begins.

A sample of the thread has the line itself. It is taken for all calls of an operator in a function if all samples of it there
agree, so that an operator that stands on two lines of a function keeps the function's own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.views.source_lines import Spot, UserFrames, places_of
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Category, Trace

Rows = npt.NDArray[np.int64]
PlacesOf = Callable[[Rows], tuple[str | None, ...]]
Lines = dict[tuple[str, int], str]
_AGREEING = 2  # samples; one alone can be chance
_MOST = 0.5  # of the time that was seen in a function


def exact_lines(trace: Trace, frames: UserFrames, functions: PlacesOf) -> Lines:
    """For the begin of a function and the name of an operator: the line that calls it there.

    Args:
        trace: the trace with the samples.
        frames: the functions that the stacks know.
        functions: for rows of this trace, where the functions begin that called them.
    """
    sampled = _sampled_rows(trace)
    lines = places_of(trace, sampled, UserFrames({}, {}, frames.trainers))
    found: dict[tuple[str, int], list[str]] = {}
    for row, line, begin in zip(sampled.tolist(), lines, functions(sampled), strict=True):
        if line is not None and begin is not None and frames.is_within(line, begin):
            found.setdefault((begin, int(trace.events.name[row])), []).append(line)
    return {key: told[0] for key, told in found.items() if len(told) >= _AGREEING and len(set(told)) == 1}


def line_within(trace: Trace, spot: Spot, frames: UserFrames) -> Spot:
    """The function with the line that it is at for most of its time in the whole run, if that was looked at; else as it is.

    A function of a library is at the line of the program that calls it.
    """
    course = trace.facts.course if trace.facts is not None else None
    if course is None or spot.function is None:
        return spot
    calls = [line for line in course.lines if line.call == f"{_package(spot.place)}.{spot.function}"]
    if calls:
        return replace(spot, place=max(calls, key=lambda line: line.short_s + line.long_s).place)
    seen: defaultdict[str, float] = defaultdict(float)
    for line in course.lines:
        if frames.is_within(line.place, spot.place):
            seen[line.place] += line.short_s + line.long_s
    place = max(seen, key=lambda line: seen[line], default=None)
    return replace(spot, place=place) if place and seen[place] >= _MOST * sum(seen.values()) else spot


def at_its_call(trace: Trace, line: str, function: Spot | None) -> Spot | None:
    """A library's function at the line of the program that calls this library, which its user can edit; None if it is none.

    Frames of a trace do not tell libraries from the program, samples do.
    """
    if function is None or trace.facts is None:
        return None
    calls = {sample.call.partition(".")[0] for sample in trace.facts.frames if sample.place == line and sample.call}
    return replace(function, place=line) if _package(function.place) in calls else None


def _package(place: str) -> str:
    return place.partition(":")[0].partition("/")[0].removesuffix(".py")


def line_at(trace: Trace, function: str, where: Intervals, frames: UserFrames) -> str:
    """The line that samples of this host time see most in the function that begins here; the begin if they are too few.

    Where the stacks' place is no begin of a function it is a line already.
    """
    if trace.facts is None or not trace.origin_ns or function not in frames.places.values():
        return function
    at = np.array([sample.time_ns - trace.origin_ns for sample in trace.facts.frames], np.int64)
    inside = (trace.facts.frames[i].place for i in np.flatnonzero(where.contains(at)).tolist())
    lines = Counter(place for place in inside if frames.is_within(place, function))
    return lines.most_common(1)[0][0] if lines.total() >= _AGREEING else function


def _sampled_rows(trace: Trace) -> Rows:
    """Operators while which the thread was looked at."""
    if trace.facts is None or not trace.facts.frames or not trace.origin_ns:
        return np.zeros(0, np.int64)
    times = np.sort(np.array([sample.time_ns - trace.origin_ns for sample in trace.facts.frames], np.int64))
    rows = trace.rows(Category.CPU_OP)
    first = np.searchsorted(times, trace.events.start[rows])
    found: Rows = rows[np.append(times, np.iinfo(np.int64).max)[first] < trace.events.end[rows]]
    return found
