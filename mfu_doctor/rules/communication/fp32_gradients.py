"""Gradients are reduced across ranks in fp32. bf16 would need half of the bytes.

What it measures
    All-reduces and reduce-scatters of at least 1 MiB in fp32, and the part of them that does not overlap with compute.

Why it costs
    The time of a large collective is bytes / bandwidth: half of the bytes take half of the time.

How the gain is predicted
    Low: 70 % of the transfer time remains.
    Mid: 55 % remains.
    High: 50 % remains.
    The time of waiting for other ranks does not change. The low estimate takes time as waiting if the trace does not tell.
    Collectives that overlap with compute save nothing.

How to fix
    Use the bf16 compression hook of DistributedDataParallel, reduce_dtype=torch.bfloat16 with FSDP, or communication_data_type
    with DeepSpeed. The rule needs the spans of one of them.

When it is wrong
    The rule is wrong if the training needs precise sums: bf16 sums over many ranks are less precise.

References
    https://pytorch.org/docs/stable/ddp_comm_hooks.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.parallelism import Parallelism, parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
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
    every, fix = collectives_of(run), _fix(parallelism_of(run))
    if every is None:
        return None
    if fix is None:
        return Skip("the trace does not show what reduces gradients (DistributedDataParallel, FSDP, DeepSpeed)")
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
    sure = np.where(every.transfer_known[chosen], transfer, 0)  # the rest can be waiting, which does not become shorter
    told = zip(_LEFT, (sure, sure, transfer), strict=True)
    ends = [(SetDevice(rows, (every.duration_ns[chosen] - part * (1 - left)).astype(np.int64)),) for left, part in told]
    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for reductions of fp32 gradients "
        f"({size_of(steady.per_step(float(every.size[inside].sum())))} per step)",
        fix=fix,
        decides=Ends(
            low="latency, not bytes, takes a part of the transfers", high="the transfers are bound by their bytes"
        ),
        change=Change(*ends),
        evidence=(
            shown("bytes", steady.per_step(float(every.size[inside].sum())), "bytes per step"),
            shown("exposed communication", seconds(exposed), "s"),
        ),
        risk="rounding",
        symptom_of=("slow-link", "sync-every-microbatch", "small-buckets", "exposed-communication"),
    )


def _fix(used: Parallelism) -> str | None:
    """The option of the framework that reduces the gradients; None if none is known."""
    if used.ddp:
        return "model.register_comm_hook(None, torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook)"
    if used.fsdp2:
        return "fully_shard(module, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.bfloat16))"
    if used.fsdp1:
        return "FullyShardedDataParallel(model, mixed_precision=MixedPrecision(reduce_dtype=torch.bfloat16))"
    return '"communication_data_type": "bf16"  # DeepSpeed config' if used.deepspeed else None
