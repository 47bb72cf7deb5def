"""Single numbers are reduced or broadcast across ranks in each step: metrics, flags, barriers, buffers.

What it measures
    Collectives of at most 4 KiB and barriers in the steady steps, and the part of them that is exposed.

Why it costs
    A tiny collective costs the latency of a large one and makes each rank wait for the slowest.

How the gain is predicted
    They vanish (mid, high) or take half (low). What they cost by making ranks wait shows as their duration.

How to fix
    Reduce metrics every hundred steps, all in one tensor; broadcast_buffers=False where norms need no common statistics.

When it is wrong
    A gradient norm across shards (FSDP) is needed in each step.

References
    https://pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

RARE = 0.5  # fewer than one in two steps is what the advice asks for


@rule(
    "scalar-collectives",
    "CO008",
    "single numbers are reduced across ranks in each step",
    needs=(Need.DEVICE,),
    also=("barrier", "all-reduce-metrics", "object-collectives"),
)
def scalar_collectives(run: Run) -> Outcome:
    """Judge tiny collectives and barriers."""
    every = collectives_of(run)
    if every is None:
        return None
    steady = steady_of(run)
    tiny = every.tiny
    inside = tiny & steady.entries(run)[every.entry]
    count = steady.per_step(int(inside.sum()))
    if count < RARE:
        return None
    exposed = steady.per_step(float(every.exposed_ns[inside].sum()))
    rows = run.activity.row[every.entry[tiny]]
    kinds = {every.kind[i] for i in np.flatnonzero(inside).tolist()}

    def left(factor: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), factor)),)

    return Finding(
        summary=f"{counted(count, 'tiny collective')} a step ({', '.join(sorted(kinds))}), exposed "
        f"{steady.share(exposed)} of it",
        fix="DistributedDataParallel(model, broadcast_buffers=False)"
        if kinds == {"broadcast"}
        else "if step % 100 == 0: torch.distributed.all_reduce(metrics)  # all metrics in one tensor, and not each step",
        change=Change(left(0.5), left(0.0), left(0.0)),
        evidence=(shown("tiny collectives", count, "per step"), shown("exposed", seconds(exposed), "s")),
    )
