"""Forward and backward run, and all their gradients are reset before an optimizer uses them.

What it measures
    Backward passes after which zero_grad() of the only optimizer resets the gradients before it steps, while nothing else reads
    them, in every step; with the operators of forward that these passes consume.

Why it costs
    Such a pass changes no parameter. The usual reason is a closure: optimizer.step(closure) calls the closure itself, so a
    program that calls it too runs forward and backward twice per step.

How the gain is predicted
    The operators of these passes are removed.
    Low: only the device time.
    Mid and high: the time to launch them on the CPU as well.

How to fix
    loss = optimizer.step(closure), without another call of the closure. Optimizers other than LBFGS need no closure:
    loss.backward() and optimizer.step(). Without a closure: delete the pass, which changes no result. If its loss should train
    the model, delete the zero_grad() after it. The report names the line of that zero_grad(), or of optimizer.step(closure).

When it is wrong
    The rule is wrong if the program keeps the gradients themselves (not a copy) and never calculates with them in the step.

References
    https://pytorch.org/docs/stable/optim.html#optimizer-step-closure
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, removed, scaled
from mfu_doctor.analysis.evidence.discarded_passes import discarded_passes_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_CLOSURE = "loss = optimizer.step(closure)  # do not call closure() as well: step() calls it"
_RESETS = "# delete this forward and backward pass, or the zero_grad() after it, which resets its gradients before they are used"
_ALIKE = "without the pass the results stay the same; without the reset its loss trains the model too"


@rule(
    "discarded-pass",
    "KE040",
    "gradients are reset before they are used",
    needs=(Need.SHAPES,),
    also=("closure-called-twice", "double-closure", "zero-grad-before-step"),
)
def discarded_pass(run: Run) -> Outcome:
    """Look for whole passes without use."""
    found = discarded_passes_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = device_ns(run, steady, found.mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    count = steady.per_step(len(steady.issued(run, found.begins)))
    without = removed(run, found.mask, found.rows)
    return Finding(
        summary=f"{counted(count, 'forward and backward pass')} per step for nothing, {steady.share(spent)} of the step: "
        "zero_grad() resets all gradients before the optimizer uses them",
        fix=_CLOSURE if found.by_step else _RESETS,
        detail="step() runs the closure again, and its gradients are those that are used" if found.by_step else _ALIKE,
        confidence="measured",
        decides=Ends(low="only the device gains", high="the CPU gains the time to launch it too"),
        change=Change(scaled(run, found.mask, 0.0), without, without),
        evidence=(
            shown("passes without use", count, "per step"),
            shown("their time", seconds(spent), "s"),
        ),
        place=first_place(run, found.steps if found.by_step else found.resets) or first_place(run, found.roots),
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run))[found.mask].sum()),
    )
