"""Gradients are reduced in many small collectives, and each pays its latency.

What it measures
    The number and sizes of all-reduces per step.

Why it costs
    An all-reduce costs a latency of tens of microseconds before its first byte; a hundred of them cost that a hundred
    times.

How the gain is predicted
    n collectives cost n times the latency (the fastest of this run) plus their bytes at the rate of the largest; in
    buckets of 25 MiB n becomes small. Low: half of that gain.

How to fix
    Leave bucket_cap_mb at 25 or raise it; reduce own tensors together (torch.distributed.all_reduce_coalesced).

When it is wrong
    Small buckets overlap better with the backward pass. What is hidden costs nothing.

References
    Li et al., PyTorch Distributed, VLDB 2020.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, size_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# DistributedDataParallel's default bucket; below a megabyte a collective is latency (NCCL tests: bandwidth saturates above 4 MB).
BUCKET_BYTES = 25 << 20
SMALL_BYTES = 1 << 20
MANY = 8


@rule(
    "small-buckets",
    "CO003",
    "gradients are reduced in many small pieces",
    needs=(Need.DEVICE,),
    also=("bucket-cap-mb", "gradient-as-bucket-view", "static-graph"),
)
def small_buckets(run: Run) -> Outcome:
    """Judge the sizes of all-reduces."""
    every = collectives_of(run)
    if every is None:
        return None
    steady = steady_of(run)
    reducing = np.array([kind == "allreduce" for kind in every.kind]) & (every.size > 0)
    inside = reducing & steady.entries(run)[every.entry]
    count = steady.per_step(int(inside.sum()))
    if count < MANY or np.median(every.size[inside]) >= SMALL_BYTES:
        return None
    total = steady.per_step(float(every.size[inside].sum()))
    now = steady.per_step(float(every.duration_ns[inside].sum()))
    latency = float(every.duration_ns[inside].min())
    largest = int(np.argmax(np.where(inside, every.size, -1)))
    per_byte = max(float(every.duration_ns[largest]) - latency, 0.0) / float(every.size[largest])
    buckets = max(-(-total // BUCKET_BYTES), 1.0)
    left = min((buckets * latency + total * per_byte) / max(now, 1.0), 1.0)
    rows = run.activity.row[every.entry[reducing]]

    def shorter(factor: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), factor)),)

    return Finding(
        summary=f"{counted(count, 'all-reduce')} a step of {size_of(float(np.median(every.size[inside])))} each take "
        f"{steady.share(now)} of it",
        fix="DistributedDataParallel(model, bucket_cap_mb=25, gradient_as_bucket_view=True)",
        detail=f"{size_of(total)} a step would fit into {counted(buckets, 'bucket')}",
        change=Change(shorter((1 + left) / 2), shorter(left), shorter(left)),
        evidence=(
            shown("all-reduces", count, "per step"),
            shown("bytes", total, "bytes per step"),
            shown("latency of one", seconds(latency), "s"),
        ),
    )
