"""Recorded steps that something else on the machine made long, left out of what is judged.

A live run knows how long its steps take without a profiler. A recorded one that is far longer than the longest of those says
nothing about the run: its operators only look slow, and prices made from them would promise what cannot be had.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.steps import WARM_UP, Steps
from mfu_doctor.intervals import EMPTY, Intervals, union


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
    expected = WARM_UP * max(usual, longest_ns)
    long = steps.steady & (steps.duration - _spent(steps, own) > expected)
    count = int(long.sum())
    if not count:
        return steps
    which = "one recorded step is" if count == 1 else f"{count} recorded steps are"
    said = f"{which} left out: more than {WARM_UP:g} times as long as any un-profiled one"
    note = said if steps.note is None else f"{steps.note}; {said}"
    return replace(steps, steady=steps.steady & ~long, note=note)


def rare_ns(steps: Steps, own: Intervals) -> float:
    """Mean nanoseconds per steady step of what only a few of them do: what `own` takes on average beyond the median."""
    spent = _spent(steps, own)[steps.steady]
    return float(spent.mean()) - min(float(np.median(spent)), float(spent.mean()))


def _spent(steps: Steps, own: Intervals) -> npt.NDArray[np.int64]:
    """Nanoseconds of each steady step that these cover, shape (steps,)."""
    spent = np.zeros(steps.count, np.int64)
    for index in np.flatnonzero(steps.steady).tolist():
        window = union(steps.host_start[index : index + 1], steps.host_end[index : index + 1])
        spent[index] = (own & window).total_ns
    return spent
