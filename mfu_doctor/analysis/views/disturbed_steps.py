"""Recorded steps that something else on the machine made long, left out of what is judged.

A live run knows how long its steps take without a profiler. A recorded one that is far longer than the longest of those says
nothing about the run: its operators only look slow, and prices made from them would promise what cannot be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median, median_low

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.replay.timeline import EXCEPTIONAL
from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.steps import WARM_UP, Steps, find_steps
from mfu_doctor.intervals import EMPTY, Intervals, union
from mfu_doctor.trace import Trace
from mfu_doctor.units import NS_PER_S

# Share of the un-profiled steps: one in five comes again, a single long one among a dozen may be the machine.
_OFTEN = 0.2


def judged_steps(
    trace: Trace, activity: Activity, launches: Launches, host: Host, wanted: tuple[int, int] | None
) -> Steps:
    """The step windows of a trace, disturbed ones no longer steady (none is, where the user wants these very steps).

    Args:
        trace: the trace.
        activity: its device work.
        launches: which call and operator each device operation belongs to.
        host: what the host threads did.
        wanted: judge only windows whose step number is in this half-open range.
    """
    found = find_steps(trace, activity, launches, host, wanted)
    timed = trace.facts.timed_steps_s if trace.facts is not None and wanted is None else ()
    return without_accidents(found, max(timed) * NS_PER_S if timed else None, host.housekeeping)


def without_accidents(steps: Steps, longest_ns: float | None, own: Intervals = EMPTY) -> Steps:
    """The steps, those that took far longer than any un-profiled one no longer steady.

    Args:
        steps: recorded windows.
        longest_ns: the longest un-profiled step of a live run; None for a foreign trace, of which nothing else is known.
        own: what the run did for itself however rarely (compiling, collecting garbage): a step that is long because of that
            is no accident.
    """
    if longest_ns is None:
        return steps
    usual = float(np.median(steps.duration[steps.steady]))
    long = steps.steady & (steps.duration > WARM_UP * max(usual, longest_ns)) & ~_explained(steps, own)
    count = int(long.sum())
    if not count:
        return steps
    which = "one recorded step is" if count == 1 else f"{count} recorded steps are"
    said = f"{which} left out: more than {WARM_UP:g} times as long as any un-profiled one"
    note = said if steps.note is None else f"{steps.note}; {said}"
    return replace(steps, steady=steps.steady & ~long, note=note)


def is_rarely_long(steps: Steps, own: Intervals) -> bool:
    """Whether a few steady steps took much longer than the others because of what the run did in them by itself."""
    middle = median_low(steps.duration[steps.steady].tolist())
    exceptional = steps.steady & (steps.duration > EXCEPTIONAL * middle)
    return bool((exceptional & _explained(steps, own)).any())


def are_often_long(timed: Sequence[float]) -> bool:
    """Whether so many un-profiled steps took much longer than the median one that they are no accidents."""
    middle = median(timed)
    return sum(took > EXCEPTIONAL * middle for took in timed) >= _OFTEN * len(timed)


def _explained(steps: Steps, own: Intervals) -> npt.NDArray[np.bool_]:
    """Steady steps that `own` covers for at least half of what they take beyond the median one, shape (steps,)."""
    found = np.zeros(steps.count, np.bool_)
    middle = float(np.median(steps.duration[steps.steady]))
    for i in np.flatnonzero(steps.steady & (steps.duration > middle)).tolist():
        # what the host does while it issues a step, or while the device waits in it
        window = union(np.array([steps.start[i], steps.host_start[i]]), np.array([steps.end[i], steps.host_end[i]]))
        found[i] = (own & window).total_ns >= (float(steps.duration[i]) - middle) / 2
    return found
