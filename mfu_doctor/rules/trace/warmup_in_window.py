"""The first of the steps that are judged still warm up.

What it measures
    Long steps at the start of the steady ones (more than 1.5 times the median), and compilation in them.

Why it costs
    Compilation, the first allocation of memory and the choice of convolution algorithms happen once; they do not belong in
    a step time.

How the gain is predicted
    There is no gain: it is a caution about the trace, and it says what the other numbers are worth.

How to fix
    Skip more steps before recording, or judge only the later ones (--steps A:B).

When it is wrong
    The first steps of an epoch can be slow each time, because loader workers start.

References
    https://pytorch.org/tutorials/recipes/recipes/benchmark.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.step_kinds import are_long
from mfu_doctor.quantities import first_of, share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds


@rule("warmup-in-window", "TR006", "warm-up among the steady steps", also=("first-step", "compile-in-window"))
def warmup_in_window(run: Run) -> Outcome:
    """Look for compilation, allocation and long first steps among the steady ones."""
    steady = np.flatnonzero(run.steps.steady)
    if len(steady) < 2:
        return Skip("one steady step cannot be compared with others: record more steps")
    lengths = run.steps.duration[steady].astype(np.float64)
    middle = float(run.steps.duration[run.steps.median])
    leading = int(np.argmin(np.append(are_long(run.steps)[steady], False)))
    slow = min(leading, len(steady) // 2)
    if not slow:
        return None
    last = int(steady[slow - 1])
    busy = run.host.compile.clip(int(run.steps.start[steady[0]]), int(run.steps.end[last])).total_ns
    return Finding(
        summary=f"The {first_of(slow, 'steady step')} took {time_of(float(lengths[0]))}, the median "
        f"{time_of(middle)}: warm-up",
        fix=f"mfu-doctor report TRACE --steps {int(run.steps.number[last]) + 1}:{int(run.steps.number[-1]) + 1}",
        detail=f"compilation takes {share(busy, float(lengths[:slow].sum()))} of it" if busy else None,
        evidence=(shown("first step", seconds(float(lengths[0])), "s"), shown("median step", seconds(middle), "s")),
        effort="setting",
        confidence="measured",
    )
