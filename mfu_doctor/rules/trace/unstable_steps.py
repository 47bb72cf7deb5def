"""The steady steps differ so much that one of them does not speak for the others.

What it measures
    The standard deviation of the steady step times over their mean.

Why it costs
    A saving of 3 % cannot be seen, predicted or verified where steps vary by 20 %.

How the gain is predicted
    There is no gain: it is a caution about the trace, and it says what the other numbers are worth.

How to fix
    Record more steps, fix the shapes of the batches, keep other work off the machine, and leave checkpointing and
    evaluation out of the window.

When it is wrong
    Training on sequences of very different lengths varies by nature.

References
    Georges et al., Statistically rigorous Java performance evaluation, OOPSLA 2007.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# Steps that vary by more than this (standard deviation over mean) need more of them; TraceML and others use the same 10 %.
UNSTABLE = 0.10


@rule("unstable-steps", "TR004", "step times vary", also=("variation", "noise"))
def unstable_steps(run: Run) -> Outcome:
    """Judge the spread of the steady steps."""
    lengths = run.steps.duration[run.steps.steady].astype(np.float64)
    if len(lengths) < 2:
        return Skip("one steady step has no spread: record more steps")
    variation = float(lengths.std(ddof=1) / lengths.mean())
    if variation <= UNSTABLE:
        return None
    return Finding(
        summary=f"Step times vary by {share(variation, 1.0)}: from {time_of(float(lengths.min()))} to "
        f"{time_of(float(lengths.max()))}",
        fix="mfu_doctor.profile(active=20)  # more steps, so that the median means something",
        evidence=(
            shown("variation", variation, "share"),
            shown("shortest step", seconds(float(lengths.min())), "s"),
            shown("longest step", seconds(float(lengths.max())), "s"),
        ),
        effort="setting",
        confidence="measured",
    )
