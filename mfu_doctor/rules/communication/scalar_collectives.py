"""Very small tensors (metrics, flags, buffers) are reduced or broadcast across ranks in each step.

What it measures
    Collectives of at most 4 KiB and barriers in the analysed steps, and the part of them that does not overlap with compute.

Why it costs
    A tiny collective has the latency of a large one, and each rank waits for the slowest.

How the gain is predicted
    Low: half of their time is removed.
    Mid and high: all of it is removed.
    The time that ranks wait for each other is included in the duration of the collective.

How to fix
    Reduce metrics every 100 steps, all in one tensor. Set broadcast_buffers=False if batch norm statistics need not be the same
    on all ranks.

When it is wrong
    The rule is wrong if the value is needed in each step, for example a gradient norm across shards (FSDP). Tiny all-to-alls and
    sends are not counted: they exchange the sizes of what follows.

References
    https://pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.parallelism import parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Small exchanges tell the others how much follows (sizes of an all-to-all, of a pipeline's tensors): each step needs them.
_EXCHANGE = re.compile(r"alltoall|send|recv")
RARE = 0.5  # fewer than one in two steps: metrics are already reduced rarely, as the fix advises


@rule(
    "scalar-collectives",
    "CO008",
    "tiny tensors are reduced across ranks in each step",
    needs=(Need.DEVICE,),
    also=("barrier", "all-reduce-metrics", "object-collectives"),
)
def scalar_collectives(run: Run) -> Outcome:
    """Judge tiny collectives and barriers."""
    every = collectives_of(run)
    if every is None:
        return None
    steady = steady_of(run)
    tiny = every.tiny & ~np.array([bool(_EXCHANGE.search(kind)) for kind in every.kind])
    inside = tiny & steady.entries(run)[every.entry]
    count = steady.per_step(int(inside.sum()))
    if count < RARE:
        return None
    exposed = steady.per_step(float(every.exposed_ns[inside].sum()))
    rows = run.activity.row[every.entry[tiny]]
    kinds = {every.kind[i] for i in np.flatnonzero(inside).tolist()}

    call = "broadcast(values, src=0)" if kinds == {"broadcast"} else "all_reduce(metrics)"

    def left(factor: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), factor)),)

    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for {counted(count, 'tiny collective')} per step "
        f"({', '.join(sorted(kinds))})",
        fix="DistributedDataParallel(model, broadcast_buffers=False)"
        if kinds == {"broadcast"} and parallelism_of(run).ddp
        else f"if step % 100 == 0: torch.distributed.{call}  # all values in one tensor, not in each step",
        decides=Ends(low="half of their time is waiting for a late rank, which stays", high="no rank is late"),
        change=Change(left(0.5), left(0.0), left(0.0)),
        evidence=(shown("tiny collectives", count, "per step"), shown("exposed communication", seconds(exposed), "s")),
    )
