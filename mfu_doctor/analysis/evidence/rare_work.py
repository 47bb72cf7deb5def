"""Work that only some steps have: whether a time belongs to it, and whether the account of the whole run tells of it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals

# What remains of other work in a run after a sensible fix: an evaluation of a tenth of the data after each pass takes about 3 %
# of the time (no backward pass), and some more for checkpoints and logs.
SENSIBLE = 0.05
_MOST = 0.5  # of a time, from which on it is that of long steps
_AS_LONG = 0.9  # of a long step: others that take this much of it are like it
_AGAIN = 2  # steps without the profiler; one alone can be chance


def times_less(spent: float, rest: float) -> int:
    """How many times less of some work is sensible: so many that it takes `SENSIBLE` of the run.

    Args:
        spent: time of that work.
        rest: time of everything else, in the same unit.
    """
    return max(math.ceil(spent / (rest * SENSIBLE / (1.0 - SENSIBLE))), 2) if rest > 0 else 2


def in_long_steps(run: Run, where: Intervals) -> bool:
    """Whether most of this host time is what long steps do besides: more than the others have of it."""
    steps = run.steps
    inside = where.overlap_with(steps.host_start, steps.host_end).astype(np.float64)
    long, usual = steps.long & steps.steady, steps.steady & ~steps.long
    besides = inside[long].sum() - long.sum() * (inside[usual].mean() if usual.any() else 0.0)
    return bool(besides > _MOST * where.total_ns)


def told_of_the_run(run: Run) -> bool:
    """Whether the account of the run knows what most of the time in long steps is: outside-steps counts it then."""
    whole = run.facts.whole_run if run.facts is not None else None
    return whole is not None and sum(e.seconds for e in whole.other_work) > _MOST * whole.long_s


def roots_of_rare_work(run: Run, where: Intervals) -> tuple[str, ...]:
    """Rules that explain this host time if most of it is in long steps."""
    if not in_long_steps(run, where):
        return ()
    return ("outside-steps", "long-steps") if told_of_the_run(run) else ("long-steps",)


def comes_again(run: Run, first_s: float, later_s: npt.NDArray[np.float64]) -> bool:
    """Whether steps as long as the first ones come again: among the recorded ones after them, or those timed after the start.

    Args:
        run: the run.
        first_s: the shortest of the long steps at the beginning, in seconds.
        later_s: the recorded steps after them.
    """
    facts = run.facts
    start = facts.whole_run.startup_steps if facts is not None and facts.whole_run is not None else 0
    timed = np.array(facts.timed_steps_s[start:] if facts is not None else (), np.float64)
    least = _AS_LONG * first_s
    return bool((later_s >= least).any()) or int((timed >= least).sum()) >= _AGAIN
