"""There are too few steady steps for a median.

What it measures
    The number of steady steps: recorded ones that are not left out as warm-up (the first, and long ones right after it) or as
    disturbed.

Why it costs
    One step can be a long one, and nobody can tell.

How the gain is predicted
    There is no gain: it is a caution about the trace, and it says what the other numbers are worth.

How to fix
    Record at least four steps, and call prof.step() once per iteration so that steps can be told apart.

When it is wrong
    A step that takes minutes may be recorded only once for good reason.

References
    https://pytorch.org/docs/stable/profiler.html#torch.profiler.schedule
"""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown

# A median needs three values to pass over a long one.
ENOUGH = 3


@rule("few-steps", "TR005", "too few steady steps")
def few_steps(run: Run) -> Outcome:
    """Count the steady steps."""
    count = int(run.steps.steady.sum())
    if count >= ENOUGH:
        return None
    whole = run.steps.source == WHOLE
    return Finding(
        summary="No steps in the trace: all of it is judged as one step"
        if whole
        else f"Only {counted(count, 'steady step')}",
        fix="torch.profiler.schedule(wait=5, warmup=2, active=6)  # and prof.step() at the end of each iteration",
        detail=run.steps.note,
        evidence=(shown("steady steps", count, "count"), shown("steps from", run.steps.source)),
        effort="setting",
        confidence="measured",
    )
