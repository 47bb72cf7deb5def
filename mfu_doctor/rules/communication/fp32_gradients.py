"""Gradients travel between ranks as fp32, twice the bytes that bf16 would need.

What it measures
    All-reduces and reduce-scatters of at least 1 MiB whose element type is fp32, and the part of them that is exposed.

Why it costs
    The time of a large collective is its bytes over the link; half of the bytes take half of the time.

How the gain is predicted
    The transfer takes 70, 55 or 50 % of its time; what looks like waiting for other ranks stays. Hidden collectives save
    nothing.

How to fix
    The bf16 compression hook of DistributedDataParallel, or reduce_dtype=torch.bfloat16 with FSDP.

When it is wrong
    Sums over many ranks lose digits in bf16.

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
# Share of the transfer that stays when half of the bytes travel: the casts and the latency remain.
_LEFT = (0.7, 0.55, 0.5)


@rule(
    "fp32-gradients",
    "CO009",
    "gradients travel as 32-bit numbers",
    needs=(Need.DEVICE,),
    also=("gradient-compression", "powersgd"),
)
def fp32_gradients(run: Run) -> Outcome:
    """Judge the format of gradient reductions."""
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
        summary=f"{size_of(steady.per_step(float(every.size[inside].sum())))} of fp32 gradients a step, exposed "
        f"{steady.share(exposed)} of it",
        fix="model.register_comm_hook(None, torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook)",
        change=Change(*ends),
        evidence=(
            shown("bytes", steady.per_step(float(every.size[inside].sum())), "bytes per step"),
            shown("exposed", seconds(exposed), "s"),
        ),
        risk="rounding",
        symptom_of=("slow-link", "sync-every-microbatch", "small-buckets", "exposed-communication"),
    )
