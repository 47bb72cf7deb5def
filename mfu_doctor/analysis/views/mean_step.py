"""The mean step: all work over all wall time of the judged steps. It is the step of every value in a report.

A typical (median) step is not the throughput: if every fourth batch comes late, three of four steps do not show it. So a long
step counts as what it is, one of so many. Only warm-up and disturbed steps (see `step_kinds`) are left out.

Steps that profile() timed without the profiler say how long a step takes. Recorded ones are longer by what recording costs: that
is seen beside the recording, by steps that are not long. If a long step is among the recorded ones, all steps together say how
often such steps come: the recorded ones count here too, without the cost of recording.

Where many steps are long, all recorded ones can be: they are not slow because they were recorded. The quickest step beside the
recording and the quickest with the profiler then say what recording costs, and the recorded steps stand for the mean step.
"""

from __future__ import annotations

from statistics import fmean, median_low

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.views.growth import growth_of
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.analysis.views.timed_steps import timed_steps
from mfu_doctor.facts import Facts
from mfu_doctor.result.step import LONG
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]


class MeanStep(Struct, frozen=True):
    """What a step of a run takes; times in nanoseconds.

    Attributes:
        stated_ns: the mean step without the profiler if such steps were timed, else the mean recorded one.
        recording_ns: what recording adds to a step; below zero if recorded steps happened to be shorter, 0 if it is not known.
        long: how many of the `count` steps are long.
        count: the steps that the mean is of.
        every: a long step comes every so many steps; None: not regularly, or not known.
        pace: how long such steps as were recorded take in the run, over what they take beside the recording; 1 if the usual step
            grows, by work of its own.
        all_long: whether every recorded step is a long one of the run.
    """

    stated_ns: float
    recording_ns: float
    long: int
    count: int
    every: int | None = None
    pace: float = 1.0
    all_long: bool = False

    def without_recording(self, recorded_ns: float) -> float:
        """A mean of recorded steps without what recording adds, but more than nothing."""
        return max(recorded_ns - self.recording_ns, recorded_ns * _LEAST_LEFT)

    def in_run(self, recorded_ns: float) -> float:
        """What such steps take in the run, whose later steps can be quicker or slower than those beside the recording."""
        return self.without_recording(recorded_ns) * self.pace


# Un-profiled steps were never less than this share of the profiled ones in any run that was looked at.
_LEAST_LEFT = 0.05
# Equal distances between long steps that make a period: one can be chance.
_REGULAR = 2


def mean_step(steps: Steps, facts: Facts | None) -> MeanStep:
    """The mean step of a run.

    Args:
        steps: recorded steps with their kinds.
        facts: what profile() recorded.
    """
    recorded, slow = steps.duration[steps.steady].astype(np.float64), steps.long[steps.steady]
    timed = np.array(facts.timed_steps_s if facts is not None else (), np.float64) * NS_PER_S
    if not len(timed):
        return MeanStep(steps.mean_ns, 0.0, int(slow.sum()), len(recorded), _period(steps))
    mean_timed = fmean(timed_steps(facts)) * NS_PER_S
    slow_timed, beside = are_long(timed), np.array(facts.beside_s if facts is not None else (), np.float64) * NS_PER_S
    usual, usual_beside = float(timed[~slow_timed].mean()), float(beside[~are_long(beside)].mean())
    recording = float(recorded[~slow].mean()) - usual_beside
    pace = usual / usual_beside if growth_of(facts) is None else 1.0
    if not slow.any():
        found = MeanStep(mean_timed, recording, int(slow_timed.sum()), len(timed), pace=pace)
        quickest = _quickest_recorded(facts)
        if quickest is None or not _all_long(recorded, beside, quickest):
            return found
        found = replace(found, recording_ns=max(quickest - float(beside.min()), 0.0), all_long=True)
        return replace(found, pace=mean_timed / found.without_recording(steps.mean_ns))
    many = len(timed) + len(recorded)
    total = mean_timed * len(timed) + usual * float((~slow).sum()) + float((recorded[slow] - recording).sum())
    found = MeanStep(total / many, recording, int(slow_timed.sum() + slow.sum()), many, _period(steps), pace)
    # what is long by other work is not longer at another pace: recorded steps take what the mean step says, and no more
    return found if pace == 1.0 else replace(found, pace=found.stated_ns / found.without_recording(steps.mean_ns))


def _quickest_recorded(facts: Facts | None) -> float | None:
    """The quickest step with the profiler, analysed or not."""
    return min(facts.profiled_steps_s) * NS_PER_S if facts is not None and facts.profiled_steps_s else None


def _all_long(recorded: Floats, beside: Floats, quickest: float) -> bool:
    """Whether the recorded steps are among the long ones: there are such, and the profiler leaves a usual step a usual one."""
    slow, most = are_long(beside), LONG * median_low(beside.tolist())
    return bool(slow.any()) and quickest <= most and bool((recorded > most).all())


def are_long(took: Floats) -> npt.NDArray[np.bool_]:
    """Which of these times are long: more than `LONG` times the (lower) median."""
    long: npt.NDArray[np.bool_] = took > LONG * median_low(took.tolist())
    return long


def how_often(steps: Steps, facts: Facts | None) -> tuple[int, int] | None:
    """How many of how many steps are long, where that is known better than from the recorded steps alone.

    If they come at equal distances, that distance says it: a recording need not begin and end with a whole period. Else steps
    that were timed without the profiler count too. None if no recorded step is long.
    """
    at, period = np.flatnonzero(steps.long), _period(steps)
    if not len(at):
        return None
    if period is not None:
        return 1, period
    if facts is None or not facts.timed_steps_s:
        return None
    timed = are_long(np.array(facts.timed_steps_s))
    return int(timed.sum()) + len(at), len(timed) + int(steps.steady.sum())


def _period(steps: Steps) -> int | None:
    """The distance between long steps if it is always the same."""
    at = np.flatnonzero(steps.long)
    apart = np.diff(at)
    regular = len(apart) >= _REGULAR and (apart == apart[0]).all() and steps.steady[at[0] : at[-1]].all()
    return int(apart[0]) if regular else None
