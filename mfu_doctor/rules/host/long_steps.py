"""Some steps take much longer because the CPU does other work in them: a checkpoint, a log, an evaluation.

What it measures
    Analysed steps that are longer than 1.5 times the median and longer than the median plus three robust standard deviations,
    and the gaps on the CPU in these steps.

Why it costs
    If every 100th step contains work that takes as long as 50 steps, one third of the total time is lost. The median step does
    not show this.

How the gain is predicted
    Low: the long gaps in these steps become half as long.
    Mid and high: they are removed.
    The saving is an average over the recorded steps.

How to fix
    Save checkpoints asynchronously, evaluate less often, log from another thread.

When it is wrong
    The rule is wrong if the recording contains such a step by chance. The real cost depends on how often it occurs in the whole
    run.

References
    https://pytorch.org/docs/stable/distributed.checkpoint.html (async_save)
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.host_time import host_time_of, longest_pause
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.intervals import union
from mfu_doctor.quantities import number, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# Steps within three robust standard deviations (1.4826 x MAD) of the median vary as all steps of this run do.
_SIGMA, _TO_SIGMA = 3.0, 1.4826
# More of them than this share are a second kind of step, not exceptions.
EXCEPTIONS = 0.25
ENOUGH = 5


@rule(
    "long-steps",
    "HO010",
    "some steps contain other work",
    also=("outlier-steps", "evaluation", "save-checkpoint", "logging"),
)
def long_steps(run: Run) -> Outcome:
    """Look for steps that are long because the host did something else."""
    steady = steady_of(run)
    index = np.flatnonzero(run.steps.steady)
    if len(index) < ENOUGH:
        return Skip(f"fewer than {ENOUGH} analysed steps: record more steps")
    length = run.steps.duration[index].astype(np.float64)
    middle = float(run.steps.duration[run.steps.median])
    spread = _SIGMA * _TO_SIGMA * float(np.median(np.abs(length - middle)))
    long = (length > middle + spread) & run.steps.long[index]
    if not long.any() or long.mean() > EXCEPTIONS:
        return None
    steps = index[long]
    windows = union(run.steps.host_start[steps], run.steps.host_end[steps])
    pauses = host_time_of(run, steady).pauses & windows
    if not pauses.count:
        return None
    pause, spot = longest_pause(pauses, steady), run.python_at(pauses)
    return Finding(
        summary=f"{number(len(steps))} of {len(index)} steps took up to {time_of(float(length.max()))}; the median step took "
        f"{time_of(middle)}",
        fix=f"# call {spot.spelled} less often, or from another thread"
        if spot
        else "# write checkpoints and logs from another thread or less often",
        detail=f"the longest gap of the CPU takes {time_of(pause[1] - pause[0])}" if pause else None,
        change=Change((ScaleHost(pauses, 0.5),), (ScaleHost(pauses, 0.0),), (ScaleHost(pauses, 0.0),)),
        evidence=(
            shown("long steps", len(steps), "count"),
            shown("longest step", seconds(float(length.max())), "s"),
            shown("median step", seconds(middle), "s"),
        ),
        effort="refactor",
        place=spot.place if spot else None,
        symptom_of=("outside-steps",),
        confidence="hint",
    )
