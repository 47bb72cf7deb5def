"""Pointwise operations follow one another, each with a pass over memory of its own.

What it measures
    Runs of at least three pointwise kernels in a row on a stream (a CPU thread), outside the optimizer, and their time.

Why it costs
    A pointwise kernel does nothing but read and write memory. A fused one reads the inputs and writes the result once.

How the gain is predicted
    Each chain becomes one operation. It takes as long as its longest member (high), plus a quarter (mid) or half (low) of
    what the others take now; the launches of the others vanish in the mid and high. On a CPU whose memory bandwidth was
    measured, what a tanh, exp or the like takes beyond its pass over memory is arithmetic, which a fused kernel does too.

How to fix
    torch.compile on the function that holds them, or a fused implementation (F.gelu, F.layer_norm,
    F.scaled_dot_product_attention).

When it is wrong
    Neighbours on the timeline that do not depend on one another, and results that are needed elsewhere, must still be
    written.

References
    Snider and Liang, Operator fusion in XLA, 2023.
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.chains import fused, pointwise_chains
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Every model has activations and residuals: chains below this share of the step are no fault.
ORDINARY_SHARE = 0.05


@rule("unfused-elementwise", "KE003", "pointwise operations run one by one", also=("kernel-fusion", "pointwise"))
def unfused_elementwise(run: Run) -> Outcome:
    """Judge chains of pointwise kernels."""
    steady = steady_of(run)
    chains = pointwise_chains(run)
    if chains is None:
        return None
    spent = chains.per_step_ns(run, steady)
    if spent < ORDINARY_SHARE * steady.step_ns:
        return None
    inside = chains.entry[steady.entries(run)[chains.entry]]
    ops = run.launches.op[inside]
    count = steady.per_step(chains.count_in(run, steady))
    return Finding(
        summary=f"{counted(steady.per_step(len(inside)), 'pointwise operation')} a step in {counted(count, 'chain')} take "
        f"{steady.share(spent)} of it",
        fix="@torch.compile  # on the function that holds the pointwise operations",
        detail="each reads from memory what the one before it has just written",
        change=Change(*fused(run, chains)),
        evidence=(
            shown("chains", count, "per step"),
            shown("operations", steady.per_step(len(inside)), "per step"),
            shown("device time", seconds(spent), "s"),
        ),
        place=first_place(run, ops[ops >= 0]),
        risk="rounding",
        symptom_of=("uncompiled",),
    )
