"""Gradients are reduced across ranks in fp32. bf16 would need half of the bytes.

What it measures
    All-reduces and reduce-scatters of at least 1 MiB in fp32, and the part of them that does not overlap with compute.

Why it costs
    The time of a large collective is bytes / bandwidth: half of the bytes take half of the time.

How the gain is predicted
    Low: 70 % of the transfer time remains.
    Mid: 55 % remains.
    High: 50 % remains.
    The time of waiting for other ranks does not change. Collectives that overlap with compute save nothing.

How to fix
    Use the bf16 compression hook of DistributedDataParallel, or reduce_dtype=torch.bfloat16 with FSDP.

When it is wrong
    The rule is wrong if the training needs precise sums: bf16 sums over many ranks are less precise.

References
    https://pytorch.org/docs/stable/ddp_comm_hooks.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import size_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_WIDE = ("float", "float32")
LARGE_BYTES = 1 << 20
# Share of the transfer time that remains with half of the bytes: casts and latency do not become shorter.
_LEFT = (0.7, 0.55, 0.5)


@rule(
    "fp32-gradients",
    "CO009",
    "gradients are reduced in fp32",
    needs=(Need.DEVICE,),
    also=("gradient-compression", "powersgd"),
)
def fp32_gradients(run: Run) -> Outcome:
    """Judge the dtype of gradient reductions."""
    every = collectives_of(run)
    if every is None:
        return None
    steady = steady_of(run)
    reduces = np.array([k in ("allreduce", "reducescatter") for k in every.kind])
    wide = np.array([(d or "").lower() in _WIDE for d in every.dtype])
    chosen = reduces & wide & (every.size >= LARGE_BYTES)
    inside = chosen & steady.entries(run)[every.entry]
    exposed = steady.per_step(float(every.exposed_ns[inside].sum()))
    if exposed <= 0:
        return None
    waiting = np.minimum(every.exposed_wait_ns, every.duration_ns)[chosen]
    transfer = every.duration_ns[chosen] - waiting
    rows = run.activity.row[every.entry[chosen]]
    ends = [(SetDevice(rows, (waiting + transfer * left).astype(np.int64)),) for left in _LEFT]
    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for reductions of fp32 gradients "
        f"({size_of(steady.per_step(float(every.size[inside].sum())))} per step)",
        fix="model.register_comm_hook(None, torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook)",
        change=Change(*ends),
        evidence=(
            shown("bytes", steady.per_step(float(every.size[inside].sum())), "bytes per step"),
            shown("exposed communication", seconds(exposed), "s"),
        ),
        risk="rounding",
        symptom_of=("slow-link", "sync-every-microbatch", "small-buckets", "exposed-communication"),
    )
