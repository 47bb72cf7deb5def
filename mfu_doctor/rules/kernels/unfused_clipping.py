"""Gradient clipping computes the norm of each parameter in a separate call.

What it measures
    Norms of single tensors outside the optimizer, if there are at least ten per step.

Why it costs
    Each norm launches a kernel that runs only a few microseconds. Clipping runs between backward and optimizer.step(), so it
    overlaps with nothing.

How the gain is predicted
    The norms become one kernel launch per step.
    Low: 100 % of their GPU time and 40 % of their CPU time remain.
    Mid: 80 % and 20 % remain.
    High: 50 % and 10 % remain.

How to fix
    clip_grad_norm_(..., foreach=True). Recent PyTorch versions use it by default on a GPU.

When it is wrong
    The rule is wrong if the model itself computes many norms (weight normalisation).

References
    https://pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, first_place, work_of
from mfu_doctor.analysis.evidence.steady_steps import spans, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_NORM = re.compile(r"^aten::(linalg_vector_norm|norm|frobenius_norm)$")
# A model computes a handful of norms; one per parameter is clipping.
LEAST = 10
# Shares of device and host time that remain (low, mid, high): foreach kernels do the same work with few launches.
_LEFT = ((1.0, 0.4), (0.8, 0.2), (0.5, 0.1))


@rule(
    "unfused-clipping",
    "KE014",
    "clipping computes one norm per gradient",
    needs=(Need.DEVICE,),
    also=("clip-grad-norm",),
)
def unfused_clipping(run: Run) -> Outcome:
    """Judge norms of single tensors outside the optimizer."""
    steady = steady_of(run)
    calls = calls_of(run, _NORM)
    calls = calls[~run.optimizer_steps.own.contains(run.trace.events.start[calls])]
    count = steady.per_step(len(steady.issued(run, calls)))
    if count < LEAST:
        return None
    mask = work_of(run, _NORM)
    where = spans(run, calls)
    entry = np.flatnonzero(mask & (run.launches.op >= 0))
    step = np.searchsorted(run.steps.host_start, run.trace.events.start[run.launches.op[entry]], side="right") - 1
    entry, step = entry[step >= 0], step[step >= 0]
    rows = run.activity.row[entry]
    now = np.bincount(step, run.unrecorded_ns[entry], minlength=run.steps.count)

    def merged(device: float, host: float) -> tuple[Edit, ...]:
        return (MergeLaunches(rows, step.astype(np.int64), (now * device).astype(np.int64), where, host),)

    host_ns = steady.host_ns(where)
    return Finding(
        summary=f"{counted(count, 'gradient norm')} per step take {steady.share(host_ns)} of the step on the CPU",
        fix="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)",
        decides=Ends(low="only launches go", high="half of the device time of the norms goes too"),
        change=Change(*(merged(*left) for left in _LEFT)),
        evidence=(
            shown("norms", count, "per step"),
            shown("GPU time", seconds(device_ns(run, steady, mask)), "s"),
            shown("CPU time", seconds(host_ns), "s"),
        ),
        place=first_place(run, steady.issued(run, calls)),
    )
