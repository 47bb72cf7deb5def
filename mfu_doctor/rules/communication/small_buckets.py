"""Gradients are reduced in many small collectives, and each of them adds its latency.

What it measures
    The number and sizes of all-reduces per step.

Why it costs
    An all-reduce needs tens of microseconds of latency before it transfers the first byte. A hundred all-reduces need this
    latency a hundred times.

How the gain is predicted
    The time of n collectives is n x latency + bytes / rate. The latency is the time of the fastest collective of this run, the
    rate is that of the largest one. With buckets of 25 MiB, n is small. What a collective takes longer than the quickest of its
    size is waiting for other ranks, and stays.
    Low: half of this gain.
    Mid and high: all of it.

How to fix
    Keep bucket_cap_mb of DistributedDataParallel at 25 or higher. If you call all_reduce yourself, combine the tensors.

When it is wrong
    The rule promises too much if the small buckets already overlap with backward: large buckets overlap less.

References
    Li et al., PyTorch Distributed, VLDB 2020.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.parallelism import Parallelism, parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, size_of
from mfu_doctor.result.findings import Ends
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
    "gradients are reduced in many small buckets",
    needs=(Need.DEVICE,),
    also=("bucket-cap-mb", "gradient-as-bucket-view", "static-graph"),
)
def small_buckets(run: Run) -> Outcome:
    """Judge the sizes of all-reduces."""
    every, used = collectives_of(run), parallelism_of(run)
    if every is None:
        return None
    if used.tensor and not used.data_parallel:
        return None  # sums of activations: the next layer needs each of them at once
    steady = steady_of(run)
    reducing = np.array([kind == "allreduce" for kind in every.kind]) & (every.size > 0)
    inside = reducing & steady.entries(run)[every.entry]
    count = steady.per_step(int(inside.sum()))
    if count < MANY or np.median(every.size[inside]) >= SMALL_BYTES:
        return None
    total = steady.per_step(float(every.size[inside].sum()))
    now = steady.per_step(float(every.quickest_ns[inside].sum()))
    latency = float(every.quickest_ns[inside].min())
    largest = int(np.argmax(np.where(inside, every.size, -1)))
    per_byte = max(float(every.quickest_ns[largest]) - latency, 0.0) / float(every.size[largest])
    buckets = max(-(-total // BUCKET_BYTES), 1.0)
    left = min((buckets * latency + total * per_byte) / max(now, 1.0), 1.0)
    rows = run.activity.row[every.entry[reducing]]
    moving = every.quickest_ns[reducing] / np.maximum(
        every.duration_ns[reducing], 1
    )  # the rest is waiting, which stays

    def shorter(factor: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, 1.0 - (1.0 - factor) * moving),)

    return Finding(
        summary=f"{counted(count, 'all-reduce')} per step (median {size_of(float(np.median(every.size[inside])))}) take "
        f"{steady.share(now)} of the step",
        fix=_fix(used),
        detail=f"their {size_of(total)} per step fit into {counted(buckets, 'bucket')}",
        decides=Ends(
            low="waiting for the last gradients takes half of the gain",
            high="each bucket costs no more than the quickest one here",
        ),
        change=Change(shorter((1 + left) / 2), shorter(left), shorter(left)),
        evidence=(
            shown("all-reduces", count, "per step"),
            shown("bytes", total, "bytes per step"),
            shown("latency of one", seconds(latency), "s"),
        ),
    )


def _fix(used: Parallelism) -> str:
    if used.ddp:
        copies = ", gradient_as_bucket_view=True" if used.ddp_copies else ""
        return f"DistributedDataParallel(model, bucket_cap_mb=25{copies})"
    if used.deepspeed:
        return '"zero_optimization": {"reduce_bucket_size": 5e8}  # DeepSpeed config'
    return (
        "flat = torch.cat([p.grad.flatten() for p in parameters]); torch.distributed.all_reduce(flat)  # one reduction"
    )
