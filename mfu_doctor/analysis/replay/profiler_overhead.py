"""Take the profiler's own time out of a recorded timeline, so that predictions are about the run without a profiler.

Recording an event costs the host about a microsecond just before its start and just after its end, outside the event itself.
profile() also times steps without the profiler. The difference is spread evenly over these boundaries, as far as they can
explain it. Otherwise the predicted savings of fixes for many small operators are too large, and those for waiting for data are
too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.model import Calls, Timeline
from mfu_doctor.analysis.replay.walk import walk
from mfu_doctor.trace import CALL_CATEGORIES, Category, Trace

# A profiled step this much longer than an un-profiled one is corrected; less is within what steps differ by anyway.
CORRECT_ABOVE = 0.02
_DOUBLINGS = 6
_ROUNDS = 16
_CLOSE = 0.002  # of the step
# Recording takes 0.3 us per boundary in runs of many small operators (solved for in the clinic's: 308 to 384 ns), and leaves
# caches behind that the next operator has to fill again.
_MOST_NS = 10_000.0
_MOST_QUICKER = 0.5


class Boundaries(Struct, frozen=True):
    """Starts and ends of everything recorded on the host, each sorted; the profiler's work is outside of them."""

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    def between(self, begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many boundaries' recording cost lies in each ``[begin, end)``: starts in (begin, end], ends in [begin, end)."""
        starts = np.searchsorted(self.start, end, side="right") - np.searchsorted(self.start, begin, side="right")
        ends = np.searchsorted(self.end, end, side="left") - np.searchsorted(self.end, begin, side="left")
        inside: npt.NDArray[np.int64] = np.maximum(starts, 0) + np.maximum(ends, 0)
        return inside


def without_profiler(timeline: Timeline, trace: Trace, target_ns: float) -> Timeline:
    """The timeline with so much taken out per recorded boundary that its steps take `target_ns`.

    On a host-only timeline a boundary explains `_MOST_NS` at most; what is more slowed the machine while it was recorded, and is
    taken from all operators alike.

    Args:
        timeline: as recorded.
        trace: the trace it was built from.
        target_ns: the mean un-profiled step in nanoseconds.

    Returns:
        A timeline whose `measured_ns` is the target or as near to it as the above comes. The timeline unchanged where the
        profiler cost nothing to speak of, or if no host time can explain the difference (a device-bound run). Steps that are
        longer for the gaps between their operators stay so.
    """
    if timeline.measured_ns <= target_ns * (1 + CORRECT_ABOVE):
        return timeline
    step = walk(timeline)
    goal = target_ns * step / timeline.measured_ns
    if len(timeline.operations.entry):
        changed = _without_recording(timeline, trace, step, goal, math.inf)
        if walk(changed) > goal * (1 + CORRECT_ABOVE):
            return timeline
    else:
        changed = _quicker(_without_recording(timeline, trace, step, goal, _MOST_NS), goal)
    left = walk(changed) / goal
    measured = target_ns * (left if left > 1 + CORRECT_ABOVE else 1.0)
    return replace(changed, measured_ns=measured)


def _without_recording(timeline: Timeline, trace: Trace, step: float, goal: float, most_ns: float) -> Timeline:
    """The timeline without the cost of its boundaries: as much of each as brings the step to the goal, `most_ns` at most."""
    rows = trace.rows(Category.CPU_OP, Category.ANNOTATION, *CALL_CATEGORIES)
    edges = Boundaries(np.sort(trace.events.start[rows]), np.sort(trace.events.end[rows]))
    counts = _counts(timeline.calls, edges)

    def reduced(cost: float) -> Timeline:
        return replace(timeline, calls=_reduced(timeline.calls, counts, cost))

    per_step = max(float(counts[0].sum() + counts[1].sum()) / max(len(timeline.boundaries) - 1, 1), 1.0)
    cost = _solve(lambda c: walk(reduced(c)) - goal, (step - goal) / per_step, step - goal, _CLOSE * goal)
    return reduced(min(cost, most_ns))


def _quicker(timeline: Timeline, goal: float) -> Timeline:
    """A host-only timeline whose operators all take so much less that the step reaches the goal.

    Gaps between calls stay: nothing is recorded in the user's own Python, and it needs one processor if operators use all.
    Where that would leave less than half of the operators, gaps were longer too, and the timeline stays as it is.
    """
    above = walk(timeline) - goal
    if above <= _CLOSE * goal:
        return timeline
    calls = timeline.calls

    def shorter(share: float) -> Timeline:
        return replace(timeline, calls=replace(calls, cost=(1.0 - share) * calls.cost))

    if walk(shorter(_MOST_QUICKER)) > goal:
        return timeline
    return shorter(_solve(lambda share: walk(shorter(share)) - goal, _MOST_QUICKER, above, _CLOSE * goal))


def _solve(excess: Callable[[float], float], guess: float, at_zero: float, close: float) -> float:
    """The cost at which a falling function that is `at_zero` at 0 crosses zero, or the largest tried if it never does.

    Doubling finds a bracket; false position closes it, an end that stays put counting half (the Illinois algorithm).
    """
    low, f_low = 0.0, at_zero
    high, f_high = guess, excess(guess)
    for _ in range(_DOUBLINGS):
        if f_high <= close:
            break
        low, f_low = high, f_high
        high, f_high = high * 2.0, excess(high * 2.0)
    middle, f_middle, stayed = high, f_high, 0
    for _ in range(_ROUNDS):
        if abs(f_middle) <= close or f_high > 0:
            break
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        f_middle = excess(middle)
        if f_middle > 0:
            low, f_low = middle, f_middle
            f_high, stayed = (f_high / 2.0 if stayed > 0 else f_high), 1
        else:
            high, f_high = middle, f_middle
            f_low, stayed = (f_low / 2.0 if stayed < 0 else f_low), -1
    return middle


def _counts(calls: Calls, edges: Boundaries) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Boundaries inside the gap before each call and inside the call itself."""
    before = np.where(calls.after >= 0, calls.end[np.maximum(calls.after, 0)], calls.start)
    gap = edges.between(np.minimum(before, calls.start), calls.start)
    inside = edges.between(calls.start, calls.end)
    return np.where(calls.gap > 0, gap, 0), inside


def _reduced(calls: Calls, counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], cost: float) -> Calls:
    gap = np.maximum(calls.gap - counts[0] * cost, np.minimum(calls.gap, 0.0))
    spent = np.maximum(calls.cost - counts[1] * cost, 0.0)
    return replace(calls, gap=gap, cost=spent)
