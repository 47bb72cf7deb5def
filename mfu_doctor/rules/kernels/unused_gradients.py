"""Backward computes gradients of parameters that no optimizer updates.

What it measures
    Gradients that the first backward after optimizer.step() adds to an old .grad, while other gradients are newly written: the
    optimizer of this backward does not reset them, so it does not use them. Also the time of backward after the last gradient
    that is used. If other backward passes of the run newly write as many gradients, their optimizer resets these, unused.

Why it costs
    The gradient of a weight costs as much as the forward pass of its layer, and backward must reach that layer first.

How the gain is predicted
    Backward after the last used gradient is removed.
    Low: only its device time.
    Mid and high: the time to launch it on the CPU as well.
    The MFU after the fix is of the FLOPs that are left.

How to fix
    Set requires_grad_(False) for parameters that are not trained. If they should be trained, add them to the optimizer. If
    another optimizer trains them (a GAN), call .detach() on what their model made where this loss uses it.

When it is wrong
    The rule is wrong if gradients are kept over several steps on purpose (statistics, a second optimizer that steps rarely), or
    if a custom kernel resets them. Unused gradients in layers whose backward is needed anyway (for example, with adapters in
    every layer) are not considered.

References
    https://pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, scaled, without_host, work_in
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.unused_gradients import unused_gradients_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds


@dataclass(frozen=True, slots=True)
class _Remedy:
    """A line to paste, and why."""

    fix: str
    detail: str


_FREEZE = _Remedy(
    "for parameter in frozen.parameters(): parameter.requires_grad_(False)",
    "no optimizer resets these gradients; if the parameters should be trained, add them to the optimizer",
)
_DETACH = _Remedy(
    "score = discriminator(fake.detach())  # where this loss does not train the model that made `fake`",
    "another optimizer resets these gradients before it uses its own: this backward goes through its model for nothing",
)


@rule(
    "unused-gradients",
    "KE026",
    "gradients are computed but never used",
    also=("frozen-parameters", "requires-grad", "missing-detach"),
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
    count = steady.per_step(len(inside))
    remedy = _DETACH if unused.others_reset else _FREEZE
    spent = device_ns(run, steady, mask)
    return Finding(
        summary=f"{counted(count, 'gradient')} per step are computed but never used; the avoidable backward takes "
        f"{steady.share(spent)} of the step",
        fix=remedy.fix,
        detail=remedy.detail,
        confidence="measured",
        decides=Ends(low="only the device gains", high="the CPU gains the time to launch it too"),
        change=Change(on_device, everything, everything),
        evidence=(
            shown("unused gradients", count, "per step"),
            shown(
                "backward after the last used gradient",
                seconds(steady.host_ns(unused.tail)),
                "s",
            ),
            shown("device time", seconds(spent), "s"),
        ),
        place=run.places(inside[:1])[0],
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run))[mask].sum()),
    )
