"""Gradients are set to zero in each step, although setting them to None costs nothing.

What it measures
    Device work and CPU time inside Optimizer.zero_grad events. With set_to_none=True there is no device work.

Why it costs
    One kernel per parameter writes zeros. In backward one more kernel adds the gradient to them.

How the gain is predicted
    Low: the device work and half of the CPU time of zero_grad are removed.
    Mid and high: all of it is removed.
    The saving in the backward pass is not included.

How to fix
    optimizer.zero_grad(set_to_none=True), the default since PyTorch 2.0.

When it is wrong
    The rule is wrong if the program reads .grad of parameters that were not used in the step: it then finds None instead of
    zeros.

References
    https://pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, scaled, without_host, work_in
from mfu_doctor.analysis.evidence.steady_steps import spans, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

_ZERO_GRAD = re.compile(r"^Optimizer\.zero_grad#")


@rule("zeroed-gradients", "KE015", "gradients are set to zero instead of None", also=("set-to-none", "zero-grad"))
def zeroed_gradients(run: Run) -> Outcome:
    """Judge the work inside zero_grad."""
    steady = steady_of(run)
    calls = calls_of(run, _ZERO_GRAD)
    if not len(calls):
        return None
    where = spans(run, calls)
    mask = work_in(run, where)
    inside = mask & steady.entries(run)
    if not inside.any():
        return None
    host_ns = steady.host_ns(where)
    gone: tuple[Edit, ...] = (*scaled(run, mask, 0.0), *without_host(run, where))
    half = tuple(ScaleHost(e.where, 0.5) if isinstance(e, ScaleHost) else e for e in gone)
    launched = counted(steady.per_step(len(distinct(run.activity.row[inside]))), "operation")
    return Finding(
        summary=f"zero_grad writes zeros with {launched} per step and takes {steady.share(host_ns)} of the step on the CPU",
        fix="optimizer.zero_grad(set_to_none=True)",
        detail="backward then writes the gradient and does not add it to zeros",
        confidence="measured",
        decides=Ends(low="half of the CPU time of zero_grad stays", high="zero_grad takes no time any more"),
        change=Change(half, gone, gone),
        evidence=(
            shown("device time", seconds(device_ns(run, steady, mask)), "s"),
            shown("CPU time", seconds(host_ns), "s"),
        ),
        place=run.places(calls[:1])[0],
    )
