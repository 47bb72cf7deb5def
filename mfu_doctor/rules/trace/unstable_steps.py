"""The step times vary so much that the median step does not represent them.

What it measures
    The standard deviation of the times of the analysed steps, divided by their mean.

Why it costs
    If step times vary by 20 %, a saving of 3 % cannot be seen, predicted or verified.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Record more steps, keep the shapes of the batches fixed, and stop other work on the machine. Do not record checkpointing and
    evaluation.

When it is wrong
    The rule is wrong if the training has sequences of very different lengths: then step times vary by nature.

References
    Georges et al., Statistically rigorous Java performance evaluation, OOPSLA 2007.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.recorders import record_again
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# Steps that vary by more than this (standard deviation over mean) need more of them; TraceML and others use the same 10 %.
UNSTABLE = 0.10


@rule("unstable-steps", "TR004", "step times vary", also=("variation", "noise"))
def unstable_steps(run: Run) -> Outcome:
    """Judge how much the times of the steady steps vary."""
    lengths = run.steps.duration[run.steps.steady].astype(np.float64)
    if len(lengths) < 2:
        return Skip("the variation cannot be calculated from one step: record more steps")
    variation = float(lengths.std(ddof=1) / lengths.mean())
    if variation <= UNSTABLE:
        return None
    return Finding(
        summary=f"Step times vary by {share(variation, 1.0)}: from {time_of(float(lengths.min()))} to "
        f"{time_of(float(lengths.max()))}",
        fix=record_again(run, active=20),
        evidence=(
            shown("variation", variation, "share"),
            shown("shortest step", seconds(float(lengths.min())), "s"),
            shown("longest step", seconds(float(lengths.max())), "s"),
        ),
        effort="setting",
        confidence="measured",
    )
