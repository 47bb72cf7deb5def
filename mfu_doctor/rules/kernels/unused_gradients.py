"""Backward computes gradients of parameters that no optimizer updates.

What it measures
    Gradients that backward adds to older ones in the first pass after an optimizer step, while others are written afresh:
    nobody resets them, so nobody uses them. And how long backward goes on after the last gradient that is used.

Why it costs
    A gradient of a weight costs as much as a forward pass of its layer, and backward must walk down to it.

How the gain is predicted
    All that backward does after the last used gradient vanishes (low: on the device; mid and high: on the host as well).

How to fix
    requires_grad_(False) for the parameters that are not trained; or hand them to the optimizer, where they were forgotten.

When it is wrong
    Gradients that are kept on purpose over several steps (statistics, a second optimizer that steps rarely), or reset by a
    kernel of the program's own. Unused gradients above the last used one (adapters in every layer) are not looked at.

References
    https://pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, scaled, without_host, work_in
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.unused_gradients import unused_gradients_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds


@rule(
    "unused-gradients", "KE026", "gradients are computed that nobody uses", also=("frozen-parameters", "requires-grad")
)
def unused_gradients(run: Run) -> Outcome:
    """Look for gradients that no optimizer resets."""
    unused = unused_gradients_of(run)
    if unused is None:
        return None
    steady = steady_of(run)
    inside = steady.issued(run, np.sort(unused.rows))
    if not len(inside):
        return None
    where = unused.tail
    mask = work_in(run, where)
    on_device = scaled(run, mask, 0.0)
    everything = (*on_device, *without_host(run, where))
    count = len(unused.rows) / unused.passes
    spent = device_ns(run, steady, mask)
    return Finding(
        summary=f"{counted(count, 'gradient')} a step are computed and never used; what could be left out takes "
        f"{steady.share(spent)} of the step",
        fix="for parameter in frozen.parameters(): parameter.requires_grad_(False)",
        detail="no optimizer resets these gradients; if the parameters should be trained, hand them to the optimizer",
        change=Change(on_device, everything, everything),
        evidence=(
            shown("unused gradients", count, "per step"),
            shown(
                "backward after the last used one",
                seconds(steady.per_step(float((unused.tail & steady.host).total_ns))),
                "s",
            ),
            shown("device time", seconds(spent), "s"),
        ),
        place=run.places(inside[:1])[0],
    )
