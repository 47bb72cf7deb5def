"""How much two runs of the same program differ, as far as one of them tells: less than that is no difference that anybody sees.

The means of consecutive stretches of one run vary because single steps do, and because the machine becomes slower and faster. So
their spread gives the standard error of the run's mean, drift included, where the spread of single steps would not.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev

import numpy as np

from mfu_doctor.analysis.views.mean_step import are_long
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.facts import Facts

_STRETCHES = 10  # as few as a standard deviation can be taken of, and each as long as it can be
_LEAST = 3  # times without which there is no spread to speak of
# Two standard errors of a difference of two means: what one run in twenty shows although nothing has changed.
_CHANCE = 2 * math.sqrt(2)


def run_noise(steps: Steps, facts: Facts | None) -> float:
    """The share of the step by which a run and its like differ by chance; 0 if too few steps were timed to tell.

    Steps without the profiler tell if there are enough of them, else the recorded ones. Long steps are left out: evaluations and
    late batches come in the second run as well.

    Args:
        steps: recorded steps with their kinds.
        facts: what profile() recorded.
    """
    timed = facts.timed_steps_s if facts is not None else ()
    times = np.array(timed if len(timed) >= _LEAST else steps.duration[steps.steady], np.float64)
    times = times[~are_long(times)] if len(times) else times
    if len(times) < _LEAST:
        return 0.0
    means = [fmean(part.tolist()) for part in np.array_split(times, min(_STRETCHES, len(times)))]
    return _CHANCE * stdev(means) / math.sqrt(len(means)) / fmean(means)
