"""The first analysed steps are still warm-up steps.

What it measures
    Long steps (more than 1.5 times the median) at the start of the analysed ones, and compilation in them. Steps of this length
    that come again later are no warm-up: they contain other work, such as a checkpoint.

Why it costs
    Compilation, the first memory allocations and the choice of convolution algorithms happen only once. They do not belong to
    the step time.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Skip more steps before recording, or analyse only the later ones (--steps A:B).

When it is wrong
    The rule is wrong if the first steps of each epoch are slow because DataLoader workers start.

References
    https://pytorch.org/tutorials/recipes/recipes/benchmark.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.rare_work import comes_again
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import first_of, share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_S, seconds


@rule("warmup-in-window", "TR006", "the analysed steps contain warm-up steps", also=("first-step", "compile-in-window"))
def warmup_in_window(run: Run) -> Outcome:
    """Look for compilation, allocation and long first steps among the steady ones."""
    steady = np.flatnonzero(run.steps.steady)
    if len(steady) < 2:
        return Skip("one analysed step cannot be compared with others: record more steps")
    lengths = run.steps.duration[steady].astype(np.float64)
    middle = float(run.steps.duration[run.steps.median])
    leading = int(np.argmin(np.append(run.steps.long[steady], False)))
    slow = min(leading, len(steady) // 2)
    if not slow or comes_again(run, float(lengths[:slow].min()) / NS_PER_S, lengths[slow:] / NS_PER_S):
        return None  # a checkpoint or an evaluation: later steps have it too
    last = int(steady[slow - 1])
    busy = run.host.compile.clip(int(run.steps.start[steady[0]]), int(run.steps.end[last])).total_ns
    return Finding(
        summary=f"Warm-up is in the {first_of(slow, 'analysed step')}: {time_of(float(lengths[0]))} for the first, "
        f"{time_of(middle)} for the median step",
        fix=f"mfu-doctor report TRACE --steps {int(run.steps.number[last]) + 1}:{int(run.steps.number[-1]) + 1}",
        detail=f"compilation takes {share(busy, float(lengths[:slow].sum()))} of the warm-up time" if busy else None,
        evidence=(shown("first step", seconds(float(lengths[0])), "s"), shown("median step", seconds(middle), "s")),
        effort="setting",
        confidence="measured",
        spoils="figures",
    )
